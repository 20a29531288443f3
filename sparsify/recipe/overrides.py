"""`--set a.b=c`: overrides of a recipe's fields from the command line, applied before the recipe is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparsify.errors import UsageError
from sparsify.recipe.faults import Fault, Place
from sparsify.recipe.fields import annotation_at, child, holds_named_values, is_list
from sparsify.recipe.misfit import Misfit, dotted, shown
from sparsify.recipe.yaml_source import Document, KeyPath, read_yaml


@dataclass(frozen=True, slots=True)
class Override:
    """One `--set`: the segments of its path as typed, its value, and its place in messages."""

    segments: tuple[str, ...]
    value: Any
    place: Place
    faults: tuple[Fault, ...]


def parse_override(text: str, rank: int) -> Override:
    """Read `a.b=c`, whose value is a YAML scalar or flow collection; `rank` is its number, from 1.

    Raises:
        UsageError: there is no `=`, or no path before it.
    """
    path, equals, value = text.partition("=")
    segments = tuple(path.strip().split("."))
    if not equals or not all(segments):
        raise UsageError(f"--set {text}: expected PATH=VALUE, got {text!r}; write for example --set replicates=3")
    place = Place(f"--set {text}", None, None, rank)
    document = read_yaml(value, place.file)
    faults = tuple(replace(fault, place=place, path=_joined(path, fault.path)) for fault in document.faults)
    return Override(segments, document.tree, place, faults)


def _joined(path: str, below: str) -> str:
    return path if below == dotted(()) else f"{path}.{below}"


def apply_overrides(document: Document, overrides: Sequence[Override]) -> None:
    """Set each override's value in the document's tree, in order, so that the last one wins.

    Values that fields refuse are found later, with the override as their place; what cannot be set at all (a path
    through a plain value, an index beyond a list) becomes a fault of the document here.
    """
    for override in overrides:
        document.faults.extend(override.faults)
        if override.faults:
            continue
        try:
            _apply(document, override)
        except Misfit as misfit:
            document.faults.append(Fault.of(misfit, override.place))


def _apply(document: Document, override: Override) -> None:
    container: Any = document.tree
    path: KeyPath = ()
    segments = list(override.segments)
    while segments:
        key = _take_key(container, path, segments, document.tree)
        path = (*path, key)
        if not segments:
            _forget(document, path)
            _put(container, key, override.value)
        elif child(container, key) is None:
            _put(container, key, [] if is_list(annotation_at(path, document.tree)) else {})
        document.values.setdefault(path, override.place)
        document.keys.setdefault(path, override.place)
        container = child(container, key)


def _take_key(container: Any, path: KeyPath, segments: list[str], tree: Any) -> str | int:
    """Take the next key off `segments`: a list's index, a field's name, or all the rest where keys are the user's."""
    if isinstance(container, list):
        return _index(segments.pop(0), path, len(container))
    if not isinstance(container, dict):
        raise Misfit(
            (*path, *segments),
            expected=f"a path to a field, where {dotted(path)} holds none",
            got=f"{dotted(path)} = {shown(container)}",
            mend=f"set {dotted(path)} itself",
        )
    taken = len(segments) if holds_named_values(annotation_at(path, tree)) else 1
    key = ".".join(segments[:taken])
    del segments[:taken]
    return key


def _index(segment: str, path: KeyPath, length: int) -> int:
    if segment.isdecimal() and len(segment) < 10 and int(segment) <= length:
        return int(segment)
    raise Misfit(
        (*path, segment),
        expected=f"an index of {dotted(path)} from 0 to {length}",
        got=repr(segment),
        mend=f"it has {length} items; {length} appends one",
    )


def _put(container: Any, key: str | int, value: Any) -> None:
    if isinstance(container, dict) or (isinstance(key, int) and key < len(container)):
        container[key] = value
    else:
        container.append(value)


def _forget(document: Document, path: KeyPath) -> None:
    """What stood at `path` and below in the file, and was refused there, stands no more."""
    below = len(path)
    for places in (document.values, document.keys):
        for known in [known for known in places if known[:below] == path]:
            del places[known]
    document.opaque = {known for known in document.opaque if known[:below] != path}
