from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from sparsify.errors import UsageError
from sparsify_export.pairing import measure_pair, pinned
from sparsify_export.runtimes.fake import FakeClock, FakeRuntime

FEED = {"input": np.zeros((4, 3), np.float32)}


class Bench:
    """Three fakes on one clock that log who was called."""

    def __init__(self, **latency_ms: float) -> None:
        self.clock = FakeClock()
        self.calls: list[str] = []
        self.collecting: set[bool] = set()
        self.runtimes = {name: self._runtime(name, ms) for name, ms in latency_ms.items()}

    def _runtime(self, name: str, ms: float) -> FakeRuntime:
        def latency() -> float:
            self.calls.append(name)
            self.collecting.add(gc.isenabled())
            return ms

        return FakeRuntime(latency, lambda feed: {}, self.clock, name)

    def measure(self, *, pairs: int = 40, seed: int = 0, warmup: int = 5):
        return measure_pair(*self.runtimes.values(), FEED, pairs=pairs, seed=seed, warmup=warmup, clock=self.clock)


def test_aa_comes_first_then_ab_each_warmed_up_apart():
    bench = Bench(dense=1.0, twin=1.0, sparse=2.0)
    launch = bench.measure(pairs=40, warmup=5)
    assert bench.calls[:10] == ["dense", "twin"] * 5
    assert set(bench.calls[: 2 * 45]) == {"dense", "twin"}
    assert bench.calls[90:100] == ["dense", "sparse"] * 5
    assert set(bench.calls[90:]) == {"dense", "sparse"}
    assert len(bench.calls) == 180
    assert (launch.aa.first_ms, launch.aa.second_ms) == ((1.0,) * 40, (1.0,) * 40)
    assert (launch.ab.first_ms, launch.ab.second_ms) == ((1.0,) * 40, (2.0,) * 40)


def test_both_orders_occur_and_are_recorded():
    bench = Bench(dense=1.0, twin=1.0, sparse=2.0)
    launch = bench.measure(warmup=0)
    called = bench.calls[80:]
    assert [called[2 * i] == "dense" for i in range(40)] == list(launch.ab.first_went_first)
    assert all({*called[2 * i : 2 * i + 2]} == {"dense", "sparse"} for i in range(40))
    assert 8 < sum(launch.ab.first_went_first) < 32


def test_the_seed_draws_the_orders():
    orders = [Bench(a=1.0, b=1.0, c=1.0).measure(seed=seed).ab.first_went_first for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("was", [True, False])
def test_the_garbage_collector_is_off_and_put_back(was: bool):
    bench = Bench(a=1.0, b=1.0, c=1.0)
    before = gc.isenabled()
    try:
        gc.enable() if was else gc.disable()
        bench.measure()
        assert gc.isenabled() == was
    finally:
        gc.enable() if before else gc.disable()
    assert bench.collecting == {False}


def test_what_a_reader_must_know_is_recorded():
    launch = Bench(dense=1.0, twin=1.0, sparse=2.0).measure(seed=7, warmup=3)
    assert (launch.seed, launch.warmup, launch.dense["name"], launch.sparse["name"]) == (7, 3, "dense", "sparse")
    facts = launch.environment
    assert facts["inputs"] == {"input": {"shape": [4, 3], "dtype": "float32"}}
    assert {"processor", "governor", "load_average_before", "load_average_after", "affinity", "timed"} <= facts.keys()
    assert "onnxruntime" in facts["versions"]


def test_no_pairs_are_refused():
    with pytest.raises(UsageError, match="pairs: expected 1 or more, got 0"):
        Bench(a=1.0, b=1.0, c=1.0).measure(pairs=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_pinning_holds_inside_and_is_undone():
    before = os.sched_getaffinity(0)
    core = max(before)
    with pinned([core]):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(UsageError, match=r"cores: expected some of .*, got \[999\]"), pinned([999]):
        pass
