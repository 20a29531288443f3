"""Means over replicates: Student's t, for one sample and for pairs.

With differences d_1..d_n of mean d and sample deviation s, t = (d - d0) / (s / sqrt(n)) has n - 1 degrees of freedom.
scipy.special is imported when called: a tenth of the cost of scipy.stats.

When all differences are equal, s = 0 and t has a limit: p = 0 where d > d0, and p = 1 where d <= d0. The boundary
counts as the null hypothesis, so that equality is never evidence. Spread that is rounding alone (below 1e-12 of the
values) is taken as none.

`resolution` guards against believing so small an s: an accuracy over m images moves in steps of 1/m, and a difference
of two such values hides a deviation of resolution / sqrt(6) (Sheppard). s is never taken to be smaller.
"""

from __future__ import annotations

import math

import numpy as np

from sparsify.errors import UsageError
from sparsify.stats.interval import Interval
from sparsify.stats.values import Numbers, Vector, check_level, paired, vector

_ROUNDING = 1e-12


def mean_interval(values: Numbers, level: float = 0.95) -> Interval:
    """Mean with Student's t interval; one value has no interval, and says so.

    Args:
        values: n independent values, one a replicate.
        level: Two-sided confidence level.
    """
    return _interval(vector(values), check_level(level), "Student t", "one value: no interval")


def paired_difference(a: Numbers, b: Numbers, level: float = 0.95) -> Interval:
    """Mean of a - b with the paired Student's t interval; a[i] and b[i] share a replicate."""
    first, second = paired(a, b)
    return _interval(first - second, check_level(level), "paired Student t", "one pair: no interval")


def non_inferior(treatment: Numbers, control: Numbers, margin: float, *, resolution: float = 0.0) -> float:
    """One-sided p of H0: mean(treatment - control) <= -margin, paired t.

    Args:
        treatment: n values, one a replicate.
        control: n values of the same replicates.
        margin: Largest drop that still counts as no drop, at least 0.
        resolution: Smallest step in which a value can move (1 / images for an accuracy); 0 for none.
    """
    if margin < 0:
        raise UsageError(f"margin: expected 0 or more, got {margin}; it is the drop to be ruled out")
    return _one_sided(treatment, control, -margin, resolution)


def superior(treatment: Numbers, control: Numbers, *, resolution: float = 0.0) -> float:
    """One-sided p of H0: mean(treatment - control) <= 0, paired t."""
    return _one_sided(treatment, control, 0.0, resolution)


def _one_sided(treatment: Numbers, control: Numbers, d0: float, resolution: float) -> float:
    first, second = paired(treatment, control)
    if first.size < 2:
        raise UsageError("paired t test: expected 2 pairs or more, got 1; add replicates")
    d = first - second
    tolerance = _ROUNDING * max(float(np.abs(first).max()), float(np.abs(second).max()), abs(d0))
    s = max(_deviation(d, tolerance), resolution / math.sqrt(6))
    shift = float(d.mean()) - d0
    if abs(shift) <= tolerance:
        return 1.0 if s == 0 else 0.5
    if s == 0:
        return 0.0 if shift > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(d.size - 1, -shift / (s / math.sqrt(d.size))))


def _deviation(values: Vector, tolerance: float) -> float:
    s = float(values.std(ddof=1))
    return 0.0 if s <= tolerance else s


def _interval(values: Vector, level: float, method: str, alone: str) -> Interval:
    n, mean = values.size, float(values.mean())
    if n == 1:
        return Interval(mean, None, None, level, 1, alone)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, level, n, method)
