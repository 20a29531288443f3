"""Two networks timed side by side: the record of it, and what may be said of it.

    launch    one process: dense against itself (A/A), then dense against sparse (A/B), warmed up apart
    session   one opening of each network: where its weights lie in memory, for as long as it lives
    pair      one inference of each, in an order drawn at random

Raw samples are what is kept; every number is derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

from sparsify.errors import CorruptError
from sparsify.stats.interval import Interval
from sparsify.stats.latency import Verdict, latency_verdict, paired_log_ratio, percentiles


@dataclass(frozen=True)
class Samples:
    """Pairs in the order they were taken: times of both halves, which half went first, and in which session."""

    first_ms: tuple[float, ...]
    second_ms: tuple[float, ...]
    first_went_first: tuple[bool, ...]
    session: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.first_ms)

    def session_ratios(self) -> tuple[float, ...]:
        """For each session, exp of the median over its pairs of log(first / second)."""
        logs: dict[int, list[float]] = {}
        for number, first, second in zip(self.session, self.first_ms, self.second_ms, strict=True):
            logs.setdefault(number, []).append(math.log(first / second))
        return tuple(math.exp(median(values)) for values in logs.values())


@dataclass(frozen=True)
class Launch:
    """What one process measured."""

    aa: Samples
    """Dense against itself, in separate sessions."""
    ab: Samples
    """Dense against sparse."""
    warmup: int
    """Inferences of each before any was timed; A/A and A/B alike."""
    seed: int
    dense: Mapping[str, str | int]
    """`Runtime.describe()` of the dense network's runtime."""
    sparse: Mapping[str, str | int]
    environment: Mapping[str, Any]
    """Machine, versions, affinity, load average before and after, batch, precision, what was timed."""


@dataclass(frozen=True)
class Latency:
    """Launches of one comparison, and the band of ratios that counts as equivalent."""

    launches: tuple[Launch, ...]
    equivalence: float

    @cached_property
    def interval(self) -> Interval:
        """Speedup of sparse over dense, above 1 = faster: the median over sessions of `session_ratios`."""
        return self._interval(lambda launch: launch.ab)

    @cached_property
    def aa_interval(self) -> Interval:
        """The same of dense against itself: what this machine cannot tell from 1."""
        return self._interval(lambda launch: launch.aa)

    @cached_property
    def verdict(self) -> Verdict:
        """Faster, slower, equivalent or inconclusive, by the rule of `sparsify.stats`."""
        return latency_verdict(self.interval, self.aa_interval, self.equivalence)

    @property
    def pairs(self) -> int:
        """Timed pairs of dense and sparse over all launches; the intervals count sessions."""
        return sum(len(launch.ab) for launch in self.launches)

    @property
    def dense_ms(self) -> tuple[float, ...]:
        """Every time of the dense network beside the sparse one."""
        return tuple(value for launch in self.launches for value in launch.ab.first_ms)

    @property
    def sparse_ms(self) -> tuple[float, ...]:
        """Every time of the sparse network."""
        return tuple(value for launch in self.launches for value in launch.ab.second_ms)

    def comparison(self) -> dict[str, Any]:
        """`speedup`, `ci_low`, `ci_high`, `verdict`, `pairs`, and what explains them."""
        interval, verdict = self.interval, self.verdict
        return {
            "speedup": interval.estimate,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "verdict": verdict.word,
            "reason": verdict.reason,
            "pairs": self.pairs,
            "sessions": interval.n,
            "launches": len(self.launches),
            "equivalence": self.equivalence,
            "aa": self.aa_interval.to_json(),
            "dense_ms": {f"p{p}": value for p, value in percentiles(self.dense_ms).items()},
            "sparse_ms": {f"p{p}": value for p, value in percentiles(self.sparse_ms).items()},
        }

    def to_json(self) -> dict[str, Any]:
        """The comparison and, under `launches`, every raw sample."""
        return {
            "comparison": self.comparison(),
            "equivalence": self.equivalence,
            "launches": [asdict(launch) for launch in self.launches],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Latency:
        """Read what `to_json` wrote; derived numbers are computed anew. Raises `CorruptError`."""
        try:
            return cls(tuple(launch_from_json(launch) for launch in value["launches"]), float(value["equivalence"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(
                f"latency: expected samples as they were written, got a record with {error!r}"
            ) from error

    def _interval(self, samples: Callable[[Launch], Samples]) -> Interval:
        ratios = [samples(launch).session_ratios() for launch in self.launches]
        flat = [ratio for part in ratios for ratio in part]
        names = [number for number, part in enumerate(ratios) for _ in part] if len(ratios) > 1 else None
        interval = paired_log_ratio(flat, [1.0] * len(flat), launch=names)
        over = "sessions" if names is None else f"{len(ratios)} launches, then sessions within"
        return replace(interval, method=f"median over sessions of their median log-ratio, bootstrap over {over}")


def launch_from_json(value: Mapping[str, Any]) -> Launch:
    """Read one launch of `Latency.to_json`; KeyError, TypeError or ValueError where it is none."""
    return Launch(
        aa=_samples(value["aa"]),
        ab=_samples(value["ab"]),
        warmup=int(value["warmup"]),
        seed=int(value["seed"]),
        dense=dict(value["dense"]),
        sparse=dict(value["sparse"]),
        environment=dict(value["environment"]),
    )


def _samples(value: Mapping[str, Any]) -> Samples:
    first, second = _floats(value["first_ms"]), _floats(value["second_ms"])
    orders = tuple(bool(order) for order in value["first_went_first"])
    session = tuple(int(number) for number in value["session"])
    if not len(first) == len(second) == len(orders) == len(session):
        raise ValueError(f"{len(first)}, {len(second)}, {len(orders)} and {len(session)} entries for one set of pairs")
    if not all(ms > 0 for ms in (*first, *second)):
        raise ValueError("a time that is not above 0")
    return Samples(first, second, orders, session)


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
