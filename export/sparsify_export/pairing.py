"""Two entered runtimes timed in interleaved pairs.

Drift and neighbours hit both halves of a pair alike, so pairs are compared, not averages: on a busy machine an A/A test
called a difference in 41 of 80 trials when all A ran before all B, in 1 to 3 of 80 when interleaved.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from sparsify.errors import UsageError
from sparsify.machine import environment, versions
from sparsify_export.measurement import Launch, Samples
from sparsify_export.runtimes.protocol import Feed, Runtime

Clock = Callable[[], int]
"""Nanoseconds, never running backwards."""

WHAT_IS_TIMED = "one inference, host memory to host memory, session and inputs made beforehand"
_DISTRIBUTIONS = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "torch")


def measure_pair(
    dense: Runtime,
    twin: Runtime,
    sparse: Runtime,
    feed: Feed,
    *,
    pairs: int,
    seed: int,
    warmup: int,
    clock: Clock = time.perf_counter_ns,
) -> Launch:
    """One launch: A/A first, then A/B. All three runtimes are entered.

    Args:
        dense: The network that is compared with.
        twin: The same network in a session of its own: a session's place in memory is part of what A/A must show.
        sparse: The other network.
        feed: The same inputs for all, host memory.
        pairs: Timed pairs, for A/A and for A/B.
        seed: Draws which half of a pair goes first.
        warmup: Inferences of each before the first pair.
        clock: Nanoseconds; another than the machine's only for tests.
    """
    if pairs < 1:
        raise UsageError(f"pairs: expected 1 or more, got {pairs}; 200 is usual")
    before = _load()
    draw = random.Random(seed)
    with _no_collection():
        aa = _interleave(dense, twin, feed, pairs, warmup, draw, clock)
        ab = _interleave(dense, sparse, feed, pairs, warmup, draw, clock)
    facts = environment() | {
        "versions": {name: found for name, found in versions(*_DISTRIBUTIONS).items() if found != "absent"},
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_average_before": before,
        "load_average_after": _load(),
        "timed": WHAT_IS_TIMED,
        "inputs": {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in feed.items()},
    }
    return Launch(aa, ab, warmup, seed, dense.describe(), sparse.describe(), facts)


def _interleave(
    first: Runtime, second: Runtime, feed: Feed, pairs: int, warmup: int, draw: random.Random, clock: Clock
) -> Samples:
    for _ in range(warmup):
        first.infer(feed)
        second.infer(feed)
    first_ms: list[float] = []
    second_ms: list[float] = []
    orders: list[bool] = []
    for _ in range(pairs):
        ahead = draw.random() < 0.5
        if ahead:
            first_ms.append(_time(first, feed, clock))
            second_ms.append(_time(second, feed, clock))
        else:
            second_ms.append(_time(second, feed, clock))
            first_ms.append(_time(first, feed, clock))
        orders.append(ahead)
    return Samples(tuple(first_ms), tuple(second_ms), tuple(orders))


def _time(runtime: Runtime, feed: Feed, clock: Clock) -> float:
    start = clock()
    runtime.infer(feed)
    return (clock() - start) / 1e6


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
