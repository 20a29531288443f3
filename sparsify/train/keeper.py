"""`Keeper`: what a training loop asks of whoever runs it. Should I save now, must I stop, where was I?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Keeper(Protocol):
    """Checkpoints at step boundaries, and the wish to stop."""

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """What was saved last for this very training, or None."""
        ...

    def save(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """Keep `tensors` and the plain value `state` in place of what was saved before."""
        ...

    def due(self) -> bool:
        """Whether so long has passed since the last save that another is wanted."""
        ...

    def stopping(self) -> bool:
        """Whether to save and leave at this step boundary; the loop then raises Preempted."""
        ...

    def progress(self, step: int, total: int, note: str) -> None:
        """Told now and then how far training is."""
        ...


class NoKeeper:
    """Keeps nothing, never stops: for callers with their own loop, and for tests."""

    def load(self) -> None:
        """Nothing was saved."""

    def save(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """Keep nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    def stopping(self) -> bool:
        """Never."""
        return False

    def progress(self, step: int, total: int, note: str) -> None:
        """Say nothing."""
