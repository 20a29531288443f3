"""Overrides: a number per layer by glob over names of layers or their weights; the longest match wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import cast

from sparsify.errors import UsageError

LEFT_DENSE = "left dense by the override"


def means(glob: str, name: str) -> bool:
    """Whether a glob means a parameter: by its own name, or, of a layer's weight, by the layer's."""
    layer, dot, last = name.rpartition(".")
    return fnmatchcase(name, glob) or bool(dot and last.endswith("weight") and fnmatchcase(layer, glob))


def globs_of(what: str, given: object) -> tuple[str, ...]:
    """Globs as they were given in Python; a single text is one.

    Raises:
        UsageError: it is neither a text nor several.
    """
    if isinstance(given, str):
        return (given,)
    listed = isinstance(given, Iterable) and not isinstance(given, Mapping)
    globs = tuple(cast("Iterable[object]", given)) if listed else (given,)
    if not all(isinstance(glob, str) for glob in globs):
        raise UsageError(f"{what}: expected globs such as ['head*'], got {given!r}")
    return cast("tuple[str, ...]", globs)


def shares_of(what: str, given: object) -> dict[str, float]:
    """Globs and their numbers as they were given in Python, None for none.

    Raises:
        UsageError: it is no mapping of texts to numbers.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{what}: expected globs and numbers such as {{'head*': 0.5}}, got {given!r}")
    shares = dict(cast("Mapping[object, object]", given))
    for glob, number in shares.items():
        if not isinstance(glob, str) or isinstance(number, bool) or not isinstance(number, Real):
            raise UsageError(f"{what}: expected globs and numbers such as {{'head*': 0.5}}, got {glob!r}: {number!r}")
    return cast("dict[str, float]", shares)


def override_of(name: str, overrides: Mapping[str, float]) -> float | None:
    """The number of the longest glob that matches: `output.weight` beats `*`, in whatever order they are written."""
    glob = overriding_glob(name, overrides)
    return None if glob is None else overrides[glob]


def overriding_glob(name: str, overrides: Mapping[str, float]) -> str | None:
    """The longest glob that matches, or none."""
    return max((glob for glob in overrides if means(glob, name)), key=lambda glob: (len(glob), glob), default=None)


def competing(names: Iterable[str], skipped: Mapping[str, str], overrides: Mapping[str, float]) -> tuple[str, ...]:
    """The parameters that a sparsity speaks of: what the pattern fits, without a number of its own unless all have one.

    Args:
        names: All prunable parameters.
        skipped: Those that are left dense, and why; what a search gave 0 competes nonetheless.
        overrides: Those that were asked for, without what a search found.
    """
    searched = {
        name for name, why in skipped.items() if why.startswith(LEFT_DENSE) and override_of(name, overrides) is None
    }
    fit = tuple(name for name in names if name not in skipped or name in searched)
    return tuple(name for name in fit if override_of(name, overrides) is None) or fit


def check_overrides(names: Iterable[str], overrides: Mapping[str, float]) -> None:
    """Refuse a glob that matches nothing, and a number that is no fraction to remove.

    Raises:
        UsageError: names the glob, and what there is.
    """
    names = list(names)
    for glob, number in overrides.items():
        if not any(means(glob, name) for name in names):
            raise UsageError(f"overrides: {glob!r} matches no prunable parameter; there are {', '.join(names)}")
        if not 0 <= number < 1:
            raise UsageError(
                f"overrides: {glob!r}: expected a fraction from 0 to below 1, got {number}; 0 leaves it dense"
            )
