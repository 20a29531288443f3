from __future__ import annotations

import gc
import os
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify_export.measurement import Launch
from sparsify_export.pairing import measure_pair, pinned
from sparsify_export.runtimes.fake import FakeClock, FakeRuntime
from sparsify_export.runtimes.protocol import Feed

FEED = {"input": np.zeros((4, 3), np.float32)}


class Logged(FakeRuntime):
    """A fake that writes down when it is opened, closed and asked."""

    def __init__(self, bench: Bench, name: str, ms: float, opening_ms: float) -> None:
        super().__init__(lambda: ms, lambda feed: {}, bench.clock, name)
        self._bench, self._name, self._opening_ms = bench, name, opening_ms

    def __enter__(self) -> Self:
        self._bench.events.append(("open", self._name))
        self._bench.clock.advance(self._opening_ms)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self._bench.events.append(("close", self._name))

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        self._bench.events.append(("infer", self._name))
        self._bench.collecting.add(gc.isenabled())
        return super().infer(feed)


class Bench:
    """Dense, twin and sparse on one clock."""

    def __init__(self, dense: float = 1.0, twin: float = 1.0, sparse: float = 2.0, opening_ms: float = 0.0) -> None:
        self.clock = FakeClock()
        self.events: list[tuple[str, str]] = []
        self.collecting: set[bool] = set()
        latencies = {"dense": dense, "twin": twin, "sparse": sparse}
        self.runtimes = [Logged(self, name, ms, opening_ms) for name, ms in latencies.items()]

    def measure(self, *, pairs: int = 40, seed: int = 0, warmup: int = 5, sessions: int = 4) -> Launch:
        return measure_pair(
            *self.runtimes, FEED, pairs=pairs, seed=seed, warmup=warmup, sessions=sessions, clock=self.clock
        )

    def sessions(self) -> list[list[tuple[str, str]]]:
        """The events, cut where nothing is open."""
        cut: list[list[tuple[str, str]]] = [[]]
        depth = 0
        for what, name in self.events:
            cut[-1].append((what, name))
            depth += {"open": 1, "close": -1}.get(what, 0)
            if depth == 0:
                cut.append([])
        return cut[:-1]

    def last_calls(self) -> list[str]:
        """Who inferred in the last session, after the session's own warm-up."""
        return [name for what, name in self.sessions()[-1] if what == "infer"][6:]


def test_a_warm_up_apart_then_aa_then_ab_in_fresh_sessions():
    bench = Bench()
    launch = bench.measure(sessions=4, warmup=5)
    found = bench.sessions()
    assert [{name for _, name in session} for session in found] == (
        [{"dense"}, {"sparse"}] * 2 + [{"dense", "twin"}] * 4 + [{"dense", "sparse"}] * 4
    )
    assert [sum(what == "infer" for what, _ in session) for session in found[:4]] == [5, 5, 1, 1]
    assert "dense" in (ahead := {session[0][1] for session in found[4:]}) and len(ahead) > 1  # either is opened first
    assert (launch.aa.first_ms, launch.aa.second_ms) == ((1.0,) * 40, (1.0,) * 40)
    assert (launch.ab.first_ms, launch.ab.second_ms) == ((1.0,) * 40, (2.0,) * 40)
    assert launch.ab.session == tuple(session for session in range(4) for _ in range(10))


def test_each_timed_inference_follows_an_untimed_one_of_the_same_network():
    bench = Bench()
    launch = bench.measure(pairs=10, sessions=1)
    expected: list[str] = []
    for ahead in launch.ab.first_went_first:
        for half in ("dense", "sparse") if ahead else ("sparse", "dense"):
            expected += [half, half]
    assert bench.last_calls() == expected


def test_fast_networks_settle_longer():
    bench = Bench(dense=0.03, twin=0.03, sparse=0.2)
    bench.measure(pairs=10, sessions=1)
    assert bench.last_calls().count("dense") == 10 * (4 + 1)  # 0.12 ms is the first above 0.1
    assert bench.last_calls().count("sparse") == 10 * (1 + 1)


def test_pairs_are_spread_over_sessions_and_a_remainder_too():
    launch = Bench().measure(pairs=10, sessions=3)
    assert [launch.aa.session.count(number) for number in range(3)] == [3, 3, 4]
    assert max(Bench().measure(pairs=4, sessions=50).aa.session) == 3  # a pair a session, at the least


@pytest.mark.parametrize(("opening_ms", "sessions"), [(1.0, 100), (50.0, 50), (5_000.0, 5)])
def test_networks_slow_to_open_are_opened_less_often(opening_ms: float, sessions: int):
    bench = Bench(opening_ms=opening_ms)
    launch = bench.measure(pairs=200, sessions=100)
    assert len(set(launch.ab.session)) == sessions
    assert launch.environment["opening_ms"] == opening_ms
    assert len(launch.ab) == 200


def test_both_orders_occur():
    launch = Bench().measure()
    assert 8 < sum(launch.ab.first_went_first) < 32


def test_the_seed_draws_the_orders():
    orders = [Bench().measure(seed=seed).ab.first_went_first for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("was", [True, False])
def test_the_garbage_collector_is_off_and_put_back(was: bool):
    bench = Bench()
    before = gc.isenabled()
    try:
        gc.enable() if was else gc.disable()
        bench.measure()
        assert gc.isenabled() == was
    finally:
        gc.enable() if before else gc.disable()
    assert bench.collecting == {False}


def test_what_a_reader_must_know_is_recorded():
    launch = Bench().measure(seed=7, warmup=3)
    assert (launch.seed, launch.warmup, launch.dense["name"], launch.sparse["name"]) == (7, 3, "dense", "sparse")
    facts = launch.environment
    assert facts["inputs"] == {"input": {"shape": [4, 3], "dtype": "float32"}}
    assert {"processor", "governor", "load_average_before", "load_average_after", "affinity", "timed"} <= facts.keys()
    assert "onnxruntime" in facts["versions"]


def test_no_pairs_are_refused():
    with pytest.raises(UsageError, match="pairs and sessions: expected 1 or more, got 0"):
        Bench().measure(pairs=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_pinning_holds_inside_and_is_undone():
    before = os.sched_getaffinity(0)
    core = max(before)
    with pinned([core]):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(UsageError, match=r"cores: expected some of .*, got \[999\]"), pinned([999]):
        pass
