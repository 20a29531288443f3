"""Numbers as they enter the statistics: checked once, here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UsageError

Vector: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = Iterable[float] | NDArray[np.floating]


def vector(values: Numbers, what: str = "values") -> Vector:
    """Return `values` as a float64 vector (n,).

    Raises:
        UsageError: If there is no value, or one is not finite.
    """
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UsageError(
            f"{what}: expected one or more numbers in a row, got shape {array.shape}; pass a flat sequence"
        )
    if not np.isfinite(array).all():
        raise UsageError(f"{what}: expected finite numbers, got {array[~np.isfinite(array)][0]}; leave failed runs out")
    return array


def paired(a: Numbers, b: Numbers) -> tuple[Vector, Vector]:
    """Return two vectors (n,) whose i-th entries belong together.

    Raises:
        UsageError: If the lengths differ, or either is empty or not finite.
    """
    first, second = vector(a), vector(b)
    if first.size != second.size:
        raise UsageError(f"pairs: expected equally many values, got {first.size} and {second.size}; pair by replicate")
    return first, second


def check_level(level: float) -> float:
    """Return the confidence level, or raise UsageError if it is not in (0, 1)."""
    if not 0 < level < 1:
        raise UsageError(f"level: expected a confidence level between 0 and 1, got {level}; 0.95 is usual")
    return level
