"""The difference of two rates over the same examples: Tango's score interval.

Of n examples, b were right under the first network alone and c under the second alone; the difference is (b - c) / n.
Student's t gives no width where b = c = 0, as if no examples could have told; the score interval does, and holds its
coverage there (Tango 1998, Statistics in Medicine 17:891-908, equation 2).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from sparsify.errors import UsageError
from sparsify.stats.interval import Interval
from sparsify.stats.values import Numbers, check_level, paired

_STEPS = 60


def paired_rate_difference(a: Numbers, b: Numbers, level: float = 0.95) -> Interval:
    """Mean of a - b with Tango's score interval; a[i] and b[i] are 0 or 1 and share an example.

    Raises:
        UsageError: If the lengths differ, or a value is neither 0 nor 1.
    """
    first, second = paired(a, b)
    if not (((first == 0) | (first == 1)).all() and ((second == 0) | (second == 1)).all()):
        raise UsageError("rates: expected 0 or 1 for every example, got other values; use paired_difference")
    n = first.size
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    z = NormalDist().inv_cdf(0.5 + check_level(level) / 2)
    estimate = (only_first - only_second) / n
    low, high = (_bound(only_first, only_second, n, z * sign, estimate) for sign in (1, -1))
    return Interval(estimate, low, high, level, n, "Tango score interval for paired rates")


def score(only_first: int, only_second: int, n: int, delta: float) -> float:
    """Tango's statistic: standard errors by which the difference lies above `delta`, were `delta` the true one."""
    b, c = only_first, only_second
    linear = -b - c + (2 * n - b + c) * delta
    rate = (math.sqrt(max(linear**2 + 8 * n * c * delta * (1 - delta), 0.0)) - linear) / (4 * n)
    variance = n * (2 * rate + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _bound(only_first: int, only_second: int, n: int, z: float, estimate: float) -> float:
    """The difference at which the score is z, which falls as the difference grows; by bisection."""
    low, high = (-1.0, estimate) if z > 0 else (estimate, 1.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(only_first, only_second, n, middle) > z else (low, middle)
    return (low + high) / 2
