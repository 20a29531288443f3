"""pydantic's validation errors as misfits: in the recipe's own key paths and words, one for each value at fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sparsify.recipe.fields import annotation_at, child, model_at
from sparsify.recipe.misfit import Misfit, near, shown

KeyPath = tuple[str | int, ...]

# pydantic's error type -> what was expected, filled in from the error's context
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}
_MENDS = {
    "int_type": "write a plain number, without quotes or decimals",
    "int_from_float": "write a plain number, without quotes or decimals",
    "float_type": "write a plain number, without quotes",
    "bool_type": "write true or false, without quotes",
    "string_type": "put it in quotes",
    "tuple_type": "write it as [a, b]",
    "dict_type": "write it as {key: value}",
    "model_type": "write it as {key: value}",
    "model_attributes_type": "write it as {key: value}",
    "too_short": "add what is missing, or leave the key out for its default if it has one",
    "string_pattern_mismatch": "lower-case letters, digits, dots, dashes and underscores, a letter or digit first",
}


def explain(error: ValidationError, tree: Any) -> list[Misfit]:
    """Misfits of a `Recipe` validated from `tree`, one a path; members of a union that all refused become `X or Y`.

    A value is not at fault where a part of it is: the union's members that take no mapping have nothing to say then.
    """
    grouped: dict[KeyPath, list[Misfit]] = {}
    for details in error.errors(include_url=False):
        misfit = _misfit(details, tree)
        grouped.setdefault(misfit.path, []).append(misfit)
    wholes = {path[:length] for path in grouped for length in range(len(path))}
    return [_joined(misfits) for path, misfits in grouped.items() if path not in wholes]


def _misfit(details: ErrorDetails, tree: Any) -> Misfit:
    path = _path(details["loc"], tree, missing=details["type"] == "missing")
    raised = details.get("ctx", {}).get("error")
    if isinstance(raised, Misfit):
        return Misfit(
            (*path, *raised.path), expected=raised.expected, got=raised.got, mend=raised.mend, at_key=raised.at_key
        )
    match details["type"]:
        case "missing":
            return _missing(path, tree)
        case "extra_forbidden":
            return _unknown(path, tree)
        case "union_tag_not_found" | "union_tag_invalid":
            return _untagged(path, tree, details)
        case _:
            return _refused(path, details)


def _path(location: Iterable[str | int], tree: Any, *, missing: bool) -> KeyPath:
    """The key path in the recipe of an error's location, which also names the members of unions it went through."""
    path: list[str | int] = []
    keys = list(location)
    for i, key in enumerate(keys):
        is_field = annotation_at((*path, key), tree) is not None
        here = tree
        for step in path:
            here = child(here, step)
        stands = key in here if isinstance(here, dict) else isinstance(here, (list, tuple)) and isinstance(key, int)
        last = i == len(keys) - 1
        if (stands and (is_field or last)) or (missing and last):
            path.append(key)
    return tuple(path)


def _missing(path: KeyPath, tree: Any) -> Misfit:
    if isinstance(path[-1], int):
        return Misfit(path[:-1], expected=f"at least {path[-1] + 1} of them", got="fewer", mend="add what is missing")
    owner = model_at(path[:-1], tree)
    field = owner.model_fields.get(path[-1]) if owner else None
    meaning = (field.description if field else None) or "it has no default"
    return Misfit(path, expected=f"the key {path[-1]}", got="none", mend=f"add `{path[-1]}:`. {meaning}", at_key=True)


def _unknown(path: KeyPath, tree: Any) -> Misfit:
    owner = model_at(path[:-1], tree)
    allowed = list(owner.model_fields) if owner else []
    key = str(path[-1])
    return Misfit(
        path,
        expected=f"one of the keys {', '.join(allowed)}",
        got=f"the unknown key {shown(key)}",
        mend=near(key, allowed) or "remove it",
        at_key=True,
    )


def _untagged(path: KeyPath, tree: Any, details: ErrorDetails) -> Misfit:
    names = str(details.get("ctx", {}).get("expected_tags", "")).replace("'", "")
    if details["type"] == "union_tag_not_found":
        names = ", ".join(_tags(path, tree))
        return Misfit(path, expected=f"a `name:` among {names}", got="none", mend=f"add `name:`, one of {names}")
    tag = details.get("ctx", {}).get("tag", "")
    mend = near(str(tag), names.split(", ")) or f"write one of {names}"
    return Misfit((*path, "name"), expected=_or(names.split(", ")), got=shown(tag), mend=mend)


def _tags(path: KeyPath, tree: Any) -> Iterator[str]:
    for member in getattr(annotation_at(path, tree), "__args__", ()):
        yield from member.model_fields["name"].annotation.__args__


def _refused(path: KeyPath, details: ErrorDetails) -> Misfit:
    kind, value = details["type"], details["input"]
    context = details.get("ctx", {})
    expected = _EXPECTED[kind].format_map(context) if kind in _EXPECTED else details["msg"]
    mend = _MENDS.get(kind, "")
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", expected)
        expected = _or(names)
        mend = (near(value, names) if isinstance(value, str) else "") or f"write {expected}"
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        mend = f"write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    got = f"{len(value)}" if kind in ("too_short", "too_long") else shown(value)
    return Misfit(path, expected=expected, got=got, mend=mend or f"write {expected}")


def _joined(misfits: list[Misfit]) -> Misfit:
    """One misfit of several at the same path, as the members of a union give them."""
    first = misfits[0]
    expected = _or(dict.fromkeys(misfit.expected for misfit in misfits))
    mends = dict.fromkeys(misfit.mend for misfit in misfits)
    best = next((mend for mend in mends if mend.startswith("did you mean")), "; or ".join(mends))
    return Misfit(first.path, expected=expected, got=first.got, mend=best, at_key=first.at_key)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
