"""What a runtime is: something that is entered, infers, and says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from numpy.typing import NDArray

Feed: TypeAlias = Mapping[str, NDArray[Any]]


class Runtime(Protocol):
    """Runs one network. Everything expensive (sessions, engines, buffers) is made in `__enter__`.

    `infer` is synchronous, host to host: when it returns, the outputs are in ordinary memory. That is what is timed.
    """

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda`."""
        ...

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Outputs by name, for inputs by name."""
        ...

    def describe(self) -> dict[str, str | int]:
        """At least `name`, `version`, `provider` and `threads`: what a reader of a timing must know."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
