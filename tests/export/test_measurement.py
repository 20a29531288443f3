"""The record of a measurement, and, on a simulated machine that drifts and stutters, what the verdicts are worth."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator

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
            tuple(a * j for j in jitter), tuple(b * j for j in reversed(jitter)), tuple(i % 2 == 0 for i in range(pairs))
        )

    return Launch(samples(dense_ms, dense_ms), samples(dense_ms, sparse_ms), 5, 0, {"name": "x"}, {"name": "y"}, {"batch": 1})


def test_speedup_is_dense_over_sparse():
    comparison = Latency((launch(2.0, 1.0),), 0.05).comparison()
    assert comparison["speedup"] == pytest.approx(2.0, rel=0.01)
    assert comparison["ci_low"] <= comparison["speedup"] <= comparison["ci_high"]
    assert (comparison["verdict"], comparison["pairs"], comparison["launches"]) == ("faster", 100, 1)
    assert comparison["dense_ms"]["p50"] == pytest.approx(2.0, rel=0.01)


def test_percentiles_wait_for_samples_enough():
    few, more = (Latency((launch(pairs=pairs),), 0.05).comparison() for pairs in (60, 700))
    assert list(few["dense_ms"]) == ["p50"]
    assert list(more["sparse_ms"]) == ["p50", "p90", "p95", "p99"]


def test_launches_are_pooled_and_counted():
    comparison = Latency((launch(2.0, 1.0), launch(2.0, 1.0)), 0.05).comparison()
    assert (comparison["pairs"], comparison["launches"]) == (200, 2)


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
    """Latencies of a busy machine: a drift all share, noise of each inference, a stall now and then. Seeded."""

    def __init__(self, seed: int) -> None:
        self.clock = FakeClock()
        self._draw = random.Random(seed)
        self._drift = self._walk()

    def _walk(self) -> Iterator[float]:
        level = 0.0
        while True:
            level += self._draw.gauss(0, 0.01)  # 20% over 400 inferences
            yield math.exp(level)

    def runtime(self, base_ms: float) -> FakeRuntime:
        def latency() -> float:
            stall = 5.0 if self._draw.random() < 0.02 else 0.0
            return base_ms * next(self._drift) * self._draw.lognormvariate(0, 0.05) + stall

        return FakeRuntime(latency, lambda feed: {}, self.clock)


def verdicts(sparse_ms: float, trials: int = 40) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(trials):
        machine = Machine(seed)
        taken = measure_pair(
            machine.runtime(1.0),
            machine.runtime(1.0),
            machine.runtime(sparse_ms),
            FEED,
            pairs=200,
            seed=seed,
            warmup=5,
            clock=machine.clock,
        )
        found[verdict(taken)] += 1
    return found


def verdict(taken: Launch) -> str:
    """As `Latency.verdict`, with a tenth of its resamples: 160 intervals are many for one test file."""
    ab, aa = (paired_log_ratio(part.first_ms, part.second_ms, n_boot=1_000) for part in (taken.ab, taken.aa))
    return latency_verdict(ab, aa, 0.05).word


def test_the_same_network_is_called_faster_or_slower_in_at_most_5_of_40_trials():
    found = verdicts(1.0)
    assert found["faster"] + found["slower"] <= 5
    assert found["equivalent"] >= 30


def test_a_slowdown_of_a_tenth_is_called_in_at_least_36_of_40_trials():
    found = verdicts(1.1)
    assert found["slower"] >= 36
    assert found["faster"] == 0


def test_one_after_the_other_would_be_fooled():
    """The oracle of the two tests above: on this machine, all A before all B, medians do differ."""
    fooled = 0
    for seed in range(40):
        runtime = Machine(seed).runtime(1.0)
        clock = runtime._clock
        times: list[int] = []
        for _ in range(400):
            start = clock()
            runtime.infer(FEED)
            times.append(clock() - start)
        fooled += abs(math.log(float(np.median(times[:200])) / float(np.median(times[200:])))) > 0.05
    assert fooled >= 20
