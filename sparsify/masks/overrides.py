"""Overrides: a number per layer by glob over parameter names; the longest match wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from sparsify.errors import UsageError


def override_of(name: str, overrides: Mapping[str, float]) -> float | None:
    """The number of the longest glob that matches: `output.weight` beats `*`, in whatever order they are written."""
    glob = overriding_glob(name, overrides)
    return None if glob is None else overrides[glob]


def overriding_glob(name: str, overrides: Mapping[str, float]) -> str | None:
    """The longest glob that matches, or none."""
    return max(
        (glob for glob in overrides if fnmatchcase(name, glob)), key=lambda glob: (len(glob), glob), default=None
    )


def check_overrides(names: Iterable[str], overrides: Mapping[str, float]) -> None:
    """Refuse a glob that matches nothing, and a number that is no fraction to remove.

    Raises:
        UsageError: names the glob, and what there is.
    """
    names = list(names)
    for glob, number in overrides.items():
        if not any(fnmatchcase(name, glob) for name in names):
            raise UsageError(f"overrides: {glob!r} matches no prunable parameter; there are {', '.join(names)}")
        if not 0 <= number < 1:
            raise UsageError(
                f"overrides: {glob!r}: expected a fraction from 0 to below 1, got {number}; 0 leaves it dense"
            )
