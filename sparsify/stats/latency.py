"""Latency of two networks timed in turn: the ratio, its interval, and the verdict.

Pairs share the moment, so that drift cancels: the statistic is the median over pairs of log(a / b). An A/A run of the
same protocol comes first and tells what this machine can resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparsify.errors import UsageError
from sparsify.stats.interval import Interval
from sparsify.stats.values import Numbers, Vector, check_level, paired, vector

VerdictWord = Literal["faster", "slower", "equivalent", "inconclusive"]
_CHUNK = 500

# Fewest samples n for percentile p by MLPerf LoadGen's rule: P(Binomial(n, 1 - p) <= 1) is at most 1%, so that at 99%
# confidence two samples or more lie beyond it.
PERCENTILE_FLOOR = {50: 11, 90: 64, 95: 130, 99: 662}


@dataclass(frozen=True)
class Verdict:
    """What the timings allow to be said, and why."""

    word: VerdictWord
    reason: str


def paired_log_ratio(
    a_ms: Numbers,
    b_ms: Numbers,
    *,
    launch: Sequence[int] | None = None,
    n_boot: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Speedup a / b: exp of the median of log(a_ms[i] / b_ms[i]), with a paired bootstrap interval.

    With more than one launch, launches are redrawn and then the pairs within each: keeping so few launches whole would
    leave out 1 a quarter of the time for three launches of the same network, and redrawing pairs alone would take
    what differs between launches for precision.

    Args:
        a_ms: n times of the first network (dense), above 0.
        b_ms: n times of the second (sparse), each taken beside a_ms[i].
        launch: For each pair, the process it was taken in; None for one launch.
        n_boot: Number of resamples.
        seed: Seed of the resampling.
        level: Two-sided confidence level.

    Returns:
        The ratio; above 1 the second is faster. `n` counts pairs.

    Raises:
        UsageError: If the lengths differ or a time is not above 0.
    """
    a, b = paired(a_ms, b_ms)
    if a.min() <= 0 or b.min() <= 0:
        raise UsageError(f"latency: expected times above 0 ms, got {min(a.min(), b.min())}; the clock did not move")
    ratio, n = np.log(a / b), a.size
    estimate = float(np.exp(np.median(ratio)))
    if n == 1:
        return Interval(estimate, None, None, check_level(level), 1, "one pair: no interval")
    groups = _groups(ratio, launch)
    values = _resampled_medians(groups, n_boot, np.random.default_rng(seed))
    tail = (1 - check_level(level)) / 2
    low, high = np.exp(np.quantile(values, [tail, 1 - tail]))
    over = "pairs" if len(groups) == 1 else f"{len(groups)} launches, then pairs within"
    return Interval(estimate, float(low), float(high), level, n, f"median log-ratio, bootstrap over {over}")


def latency_verdict(interval: Interval, aa_interval: Interval | None, delta: float) -> Verdict:
    """Call the comparison by the rule fixed beforehand.

    Args:
        interval: Of the speedup, from `paired_log_ratio`.
        aa_interval: The same of dense against itself; None if it was not taken.
        delta: Effect asked for: half-width of the band 1 +- delta that is called equivalent.
    """
    if reason := unresolved(aa_interval, delta):
        return Verdict("inconclusive", reason)
    if interval.low is None or interval.high is None:
        return Verdict("inconclusive", "one pair has no interval")
    if 1 - delta <= interval.low and interval.high <= 1 + delta:
        return Verdict("equivalent", f"interval {_range(interval)} lies inside 1 +- {delta:g}")
    if interval.low > 1:
        return Verdict("faster", f"interval {_range(interval)} lies above 1")
    if interval.high < 1:
        return Verdict("slower", f"interval {_range(interval)} lies below 1")
    return Verdict("inconclusive", f"interval {_range(interval)} holds 1 and leaves the band 1 +- {delta:g}")


def unresolved(aa_interval: Interval | None, delta: float) -> str:
    """Why no comparison of that moment can be trusted, by dense timed against itself; empty where it can."""
    if aa_interval is None or aa_interval.low is None or aa_interval.high is None:
        return "no A/A interval: what this machine can resolve is unknown"
    if not aa_interval.low <= 1 <= aa_interval.high:
        return f"dense differs from itself here: A/A interval {_range(aa_interval)} excludes 1"
    if aa_interval.high - aa_interval.low > delta:
        return f"too noisy here: A/A interval {_range(aa_interval)} is wider than {delta:g}"
    return ""


def doubted(low: float, high: float, aa_low: float | None, aa_high: float | None) -> tuple[float | None, float | None]:
    """Bounds of a ratio or a time, moved out by as much as dense came from itself: what a noisy moment still tells.

    Without an A/A there are none. A factor of 50 stands beside a noise of a tenth; one of 1.1 does not.
    """
    if aa_low is None or aa_high is None:
        return None, None
    factor = max(aa_high, 1 / aa_low, 1.0)
    return low / factor, high * factor


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def median_interval(samples_ms: Numbers, *, n_boot: int = 2000, seed: int = 0) -> Interval:
    """Median of n times with a percentile bootstrap over samples, 95%."""
    samples = vector(samples_ms, "samples")
    drawn = np.random.default_rng(seed).integers(samples.size, size=(n_boot, samples.size))
    low, high = np.quantile(np.median(samples[drawn], axis=1), [0.025, 0.975])
    return Interval(float(np.median(samples)), float(low), float(high), 0.95, samples.size, "bootstrap over samples")


def percentiles(samples_ms: Numbers) -> dict[int, float]:
    """The percentiles that have samples enough (`PERCENTILE_FLOOR`), by percent; none of the others."""
    samples = vector(samples_ms, "samples")
    return {p: float(np.percentile(samples, p)) for p, floor in PERCENTILE_FLOOR.items() if samples.size >= floor}


def _groups(ratio: Vector, launch: Sequence[int] | None) -> list[Vector]:
    if launch is None:
        return [ratio]
    names = np.asarray(launch)
    if names.shape != ratio.shape:
        raise UsageError(f"launch: expected one launch a pair ({ratio.size}), got {names.size}")
    return [ratio[names == name] for name in np.unique(names)]


def _resampled_medians(groups: list[Vector], n_boot: int, rng: np.random.Generator) -> Vector:
    """Medians (n_boot,) of redrawn pairs, launches redrawn before them.

    Each launch gives as many pairs as launches have on average, so that launches of unlike length weigh the same.
    """
    sizes = np.array([group.size for group in groups])
    starts, ratio = np.cumsum(sizes) - sizes, np.concatenate(groups)
    each = round(ratio.size / len(groups))
    medians: list[Vector] = []
    for first in range(0, n_boot, _CHUNK):
        rows = min(_CHUNK, n_boot - first)
        launch = rng.integers(len(groups), size=(rows, len(groups)))[..., None]
        pair = rng.random((rows, len(groups), each))
        index = starts[launch] + (pair * sizes[launch]).astype(np.intp)
        medians.append(np.median(ratio[index].reshape(rows, -1), axis=1))
    return np.concatenate(medians)
