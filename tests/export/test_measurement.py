"""The record of a measurement, and, on a simulated machine that drifts and stutters, what the verdicts are worth."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import pytest

from sparsify.errors import CorruptError
from sparsify.stats.latency import latency_verdict, paired_log_ratio
from sparsify_export.measurement import Latency, Launch, Samples
from sparsify_export.pairing import measure_pair
from sparsify_export.runtimes.fake import FakeClock, FakeRuntime

FEED = {"input": np.zeros((1, 3), np.float32)}


def launch(dense_ms: float = 2.0, sparse_ms: float = 1.0, pairs: int = 100) -> Launch:
    def samples(a: float, b: float) -> Samples:
        jitter = [1 + 0.001 * (i % 7) for i in range(pairs)]
        return Samples(
            tuple(a * j for j in jitter),
            tuple(b * j for j in reversed(jitter)),
            tuple(i % 2 == 0 for i in range(pairs)),
            tuple(i // 5 for i in range(pairs)),
        )

    return Launch(
        samples(dense_ms, dense_ms), samples(dense_ms, sparse_ms), 5, 0, {"name": "x"}, {"name": "y"}, {"batch": 1}
    )


def test_speedup_is_dense_over_sparse():
    comparison = Latency((launch(2.0, 1.0),), 0.05).comparison()
    assert comparison["speedup"] == pytest.approx(2.0, rel=0.01)
    assert comparison["ci_low"] <= comparison["speedup"] <= comparison["ci_high"]
    assert (comparison["verdict"], comparison["pairs"]) == ("faster", 100)
    assert (comparison["sessions"], comparison["launches"]) == (20, 1)
    assert comparison["dense_ms"]["p50"] == pytest.approx(2.0, rel=0.01)


def test_a_session_gives_one_ratio():
    samples = Samples((1.0, 4.0, 9.0, 2.0), (1.0, 1.0, 1.0, 1.0), (True,) * 4, (0, 0, 0, 1))
    assert samples.session_ratios() == pytest.approx((4.0, 2.0))


def test_pairs_of_one_session_are_not_taken_for_independent():
    """Ten sessions that differ by 10% either way, each with a hundred equal pairs: nothing can be said."""
    ratios = [1.1 if number % 2 else 1 / 1.1 for number in range(10) for _ in range(100)]
    ab = Samples(tuple(ratios), (1.0,) * 1000, (True,) * 1000, tuple(i // 100 for i in range(1000)))
    still = Samples((1.0,) * 1000, (1.0,) * 1000, ab.first_went_first, ab.session)
    latency = Latency((Launch(still, ab, 5, 0, {}, {}, {}),), 0.05)
    assert latency.interval.low is not None and latency.interval.low < 0.92
    assert latency.interval.n == 10
    assert latency.verdict.word == "inconclusive"


def test_percentiles_wait_for_samples_enough():
    few, more = (Latency((launch(pairs=pairs),), 0.05).comparison() for pairs in (60, 700))
    assert list(few["dense_ms"]) == ["p50"]
    assert list(more["sparse_ms"]) == ["p50", "p90", "p95", "p99"]


def test_launches_are_pooled_and_counted():
    comparison = Latency((launch(2.0, 1.0), launch(2.0, 1.0)), 0.05).comparison()
    assert (comparison["pairs"], comparison["sessions"], comparison["launches"]) == (200, 40, 2)


def test_a_record_reads_back_whole_with_raw_samples():
    latency = Latency((launch(), launch(1.0, 1.0)), 0.1)
    text = json.dumps(latency.to_json(), allow_nan=False)
    assert Latency.from_json(json.loads(text)) == latency
    assert json.loads(text)["launches"][0]["ab"]["first_ms"] == list(latency.launches[0].ab.first_ms)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("launches"),
        lambda value: value["launches"][0].pop("ab"),
        lambda value: value["launches"][0]["ab"]["first_ms"].pop(),
        lambda value: value["launches"][0]["ab"].update(first_ms=["x"] * 100),
        lambda value: value["launches"][0]["aa"].update(second_ms=[0.0] * 100),
        lambda value: value.update(launches=3),
    ],
)
def test_a_damaged_record_is_corrupt(damage: Callable[[dict], object]):
    value = Latency((launch(),), 0.1).to_json()
    value = json.loads(json.dumps(value))
    damage(value)
    with pytest.raises(CorruptError, match="expected samples as they were written"):
        Latency.from_json(value)


class Machine:
    """A busy machine, seeded: a drift that all share, noise of each inference, a stall now and then."""

    def __init__(self, seed: int) -> None:
        self.clock = FakeClock()
        self.draw = random.Random(seed)
        self._drift = self._walk()

    def _walk(self) -> Iterator[float]:
        level = 0.0
        while True:
            level += self.draw.gauss(0, 0.01)  # 20% over 400 inferences
            yield math.exp(level)

    def latency_ms(self, base_ms: float) -> float:
        stall = 5.0 if self.draw.random() < 0.02 else 0.0
        return base_ms * next(self._drift) * self.draw.lognormvariate(0, 0.05) + stall


class Placed(FakeRuntime):
    """A runtime whose sessions are each faster or slower by some percent, by where they lie in memory."""

    def __init__(self, machine: Machine, base_ms: float) -> None:
        self._place = 1.0
        self._machine = machine
        super().__init__(lambda: machine.latency_ms(base_ms * self._place), lambda feed: {}, machine.clock)

    def __enter__(self) -> Self:
        self._place = self._machine.draw.lognormvariate(0, 0.03)
        return super().__enter__()


def trial(seed: int, sparse_ms: float, sessions: int) -> str:
    """One launch's verdict, as `Latency.verdict` with a tenth of its resamples."""
    machine = Machine(seed)
    runtimes = [Placed(machine, base_ms) for base_ms in (1.0, 1.0, sparse_ms)]
    taken = measure_pair(*runtimes, FEED, pairs=200, seed=seed, warmup=5, sessions=sessions, clock=machine.clock)
    ones = [1.0] * sessions
    ab, aa = (paired_log_ratio(part.session_ratios(), ones, n_boot=1_000) for part in (taken.ab, taken.aa))
    return latency_verdict(ab, aa, 0.05).word


def verdicts(sparse_ms: float, sessions: int = 200, trials: int = 40) -> Counter[str]:
    return Counter(trial(seed, sparse_ms, sessions) for seed in range(trials))


def test_the_same_network_is_called_faster_or_slower_in_at_most_5_of_40_trials():
    found = verdicts(1.0)
    assert found["faster"] + found["slower"] <= 5
    assert found["equivalent"] >= 30


def test_a_slowdown_of_a_tenth_is_called_in_at_least_36_of_40_trials():
    found = verdicts(1.1)
    assert found["slower"] >= 36
    assert found["faster"] == 0


def test_one_after_the_other_would_be_fooled():
    """Shows that the two tests above can fail: on this machine, all A before all B, medians do differ."""
    fooled = 0
    for seed in range(40):
        machine = Machine(seed)
        times = [machine.latency_ms(1.0) for _ in range(400)]
        fooled += abs(math.log(float(np.median(times[:200])) / float(np.median(times[200:])))) > 0.05
    assert fooled >= 20


def test_two_sessions_for_all_pairs_would_call_little():
    """Shows that sessions count: with two of each, a tenth is seldom called."""
    assert verdicts(1.1, sessions=2, trials=10)["slower"] <= 5
