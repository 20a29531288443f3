"""Two runtimes timed in interleaved pairs, over many sessions of each.

Three things would otherwise be taken for a difference between networks, each measured on LeNet-300-100:

- Drift and neighbours. All A before all B called a difference in 41 of 80 A/A trials, pairs in random order in 1 to 3.
- The other network's footprint. A network timed right after another finds its weights evicted and takes twice as long;
  so each half of a pair runs untimed first, until the caches hold that network again.
- A session's place in memory. Two sessions of one graph differ by 3 to 10% for as long as they live; so sessions are
  opened anew, in random order, and the statistics count sessions, not pairs. One pair a session tells the most: 200
  pairs in 200 sessions gave A/A intervals 0.04 wide, in 43 sessions 0.07.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

from sparsify.errors import UsageError
from sparsify.machine import environment, versions
from sparsify_export.measurement import Launch, Samples
from sparsify_export.runtimes.protocol import Feed, Runtime

Clock = Callable[[], int]
"""Nanoseconds, never running backwards."""

SESSIONS = 1000
"""Most sessions of each network in one launch: one for every pair, unless opening them takes too long."""
WHAT_IS_TIMED = "one inference in a settled session, host memory to host memory, inputs made beforehand"

_FEWEST_SESSIONS = 5
_SESSION_WARMUP = 3  # a session's first inferences allocate
_OPENING_BUDGET_MS = 10_000.0  # a launch: dense and twin, dense and sparse
_SETTLE_NS = 100_000  # 0.1 ms reads 1 to 2 MB from the next cache: what a core's own holds
_DISTRIBUTIONS = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "sparsify-kernels",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "torch",
)


def measure_pair(
    dense: Runtime,
    twin: Runtime,
    sparse: Runtime,
    feed: Feed,
    *,
    pairs: int,
    seed: int,
    warmup: int,
    sessions: int = SESSIONS,
    clock: Clock = time.perf_counter_ns,
) -> Launch:
    """One launch: A/A first, then A/B. The runtimes are not entered yet: that opens a session, and is done here.

    Args:
        dense: The network that is compared with.
        twin: The same network, for sessions of its own.
        sparse: The other network.
        feed: The same inputs for all, host memory.
        pairs: Timed pairs, for A/A and for A/B.
        seed: Draws which half of a pair goes first, and which session is opened first.
        warmup: Inferences of each network before anything is timed.
        sessions: Sessions of each network, for A/A and for A/B; fewer where opening them takes long (`_affordable`).
        clock: Nanoseconds; another than the machine's only for tests.
    """
    if pairs < 1 or sessions < 1:
        raise UsageError(f"pairs and sessions: expected 1 or more, got {pairs} and {sessions}; 200 pairs are usual")
    load_before = _load()
    measuring = _Measuring(feed, clock, random.Random(seed))
    with _no_collection():
        for runtime in (dense, sparse):
            measuring.warm_up(runtime, warmup)
        # Only a second opening costs what every later one will: the first imports the runtime, or builds its engine.
        opening_ms = max(measuring.warm_up(runtime, 1) for runtime in (dense, sparse))
        opened = min(sessions, _affordable(opening_ms), pairs)
        aa = measuring.interleave(dense, twin, pairs, opened)
        ab = measuring.interleave(dense, sparse, pairs, opened)
    facts = environment() | {
        "versions": {name: found for name, found in versions(*_DISTRIBUTIONS).items() if found != "absent"},
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_average_before": load_before,
        "load_average_after": _load(),
        "timed": WHAT_IS_TIMED,
        "opening_ms": opening_ms,
        "inputs": {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in feed.items()},
    }
    return Launch(aa, ab, warmup, seed, dense.describe(), sparse.describe(), facts)


def _affordable(opening_ms: float) -> int:
    """Sessions whose opening fits the budget. What is slow to open is large, and its place in memory averages out."""
    return max(_FEWEST_SESSIONS, int(_OPENING_BUDGET_MS / (4 * max(opening_ms, 1e-3))))


class _Measuring:
    """What is the same for every sample of a launch."""

    def __init__(self, feed: Feed, clock: Clock, draw: random.Random) -> None:
        self._feed = feed
        self._clock = clock
        self._draw = draw

    def warm_up(self, runtime: Runtime, inferences: int) -> float:
        """Open a session that is not timed, infer, close it; returns the milliseconds that opening took."""
        start = self._clock()
        with runtime:
            opening_ms = (self._clock() - start) / 1e6
            for _ in range(inferences):
                runtime.infer(self._feed)
        return opening_ms

    def interleave(self, first: Runtime, second: Runtime, pairs: int, sessions: int) -> Samples:
        """Time the pairs, spread evenly over the sessions."""
        taken: list[tuple[float, float, bool, int]] = []
        for session in range(sessions):
            share = pairs * (session + 1) // sessions - len(taken)
            opened = [first, second] if self._draw.random() < 0.5 else [second, first]
            with ExitStack() as stack:
                for runtime in opened:
                    stack.enter_context(runtime)
                for runtime in opened * _SESSION_WARMUP:
                    runtime.infer(self._feed)
                taken += [(*self._pair(first, second), session) for _ in range(share)]
        first_ms, second_ms, ahead, numbers = zip(*taken, strict=True)
        return Samples(tuple(first_ms), tuple(second_ms), tuple(ahead), tuple(numbers))

    def _pair(self, first: Runtime, second: Runtime) -> tuple[float, float, bool]:
        if self._draw.random() < 0.5:
            first_ms = self._time(first)
            return first_ms, self._time(second), True
        second_ms = self._time(second)
        return self._time(first), second_ms, False

    def _time(self, runtime: Runtime) -> float:
        """Milliseconds of one inference, after others that settle the caches."""
        start = self._clock()
        runtime.infer(self._feed)
        while self._clock() - start < _SETTLE_NS:
            runtime.infer(self._feed)
        start = self._clock()
        runtime.infer(self._feed)
        return (self._clock() - start) / 1e6


@contextmanager
def _no_collection() -> Generator[None]:
    """Keep the garbage collector out of the samples."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def pinned(cores: Sequence[int] | None) -> Generator[None]:
    """Run on these cores alone, where the system can; None leaves the process where it is.

    Raises:
        UsageError: The process may not use one of them.
    """
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    if not set(cores) <= before:
        raise UsageError(f"cores: expected some of {sorted(before)}, which this process may use, got {sorted(cores)}")
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _load() -> list[float] | None:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None
