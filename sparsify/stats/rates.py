"""Exact intervals for a rate of success (Clopper & Pearson 1934)."""

from __future__ import annotations

from sparsify.errors import UsageError
from sparsify.stats.interval import Interval
from sparsify.stats.values import check_level


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact two-sided interval of a binomial rate: each tail holds at most (1 - level) / 2.

    Args:
        successes: k, between 0 and `trials`.
        trials: n, at least 1.
        level: Two-sided confidence level; coverage is at least this, never less.

    Raises:
        UsageError: If the counts are impossible.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise UsageError(f"rate: expected 0 <= successes <= trials and a trial at least, got {successes} of {trials}")
    from scipy.special import betaincinv

    tail, k, n = (1 - check_level(level)) / 2, successes, trials
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return Interval(k / n, low, high, level, n, "Clopper-Pearson")
