"""A runtime that runs nothing: its latencies and outputs are given, its clock is its own. For tests, yours too."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from sparsify_export.runtimes.protocol import Feed


class FakeClock:
    """Nanoseconds that pass only when a fake runtime infers; call it as one calls `time.perf_counter_ns`."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        """The time, in nanoseconds."""
        return self.now_ns

    def advance(self, milliseconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(milliseconds * 1e6)


class FakeRuntime:
    """Each inference moves `clock` by `latency_ms()` and returns `outputs(feed)`."""

    device = "fake"

    def __init__(
        self,
        latency_ms: Callable[[], float],
        outputs: Callable[[Feed], dict[str, NDArray[Any]]],
        clock: FakeClock,
        name: str = "fake",
    ) -> None:
        self._latency_ms = latency_ms
        self._outputs = outputs
        self._clock = clock
        self._name = name
        self.inferences = 0
        self.sessions = 0
        """How often it was entered."""

    def __enter__(self) -> Self:
        self.sessions += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Advance the clock, count the call, return the given outputs."""
        self.inferences += 1
        self._clock.advance(self._latency_ms())
        return self._outputs(feed)

    def describe(self) -> dict[str, str | int]:
        """Name, version, provider and threads, all of them made up."""
        return {"name": self._name, "version": "0", "provider": "fake", "threads": 1}
