"""What can happen to a mask at a step, as plain values; a schedule is a dict of them by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from sparsify.errors import UsageError
from sparsify.recipe.step import Step


@dataclass(frozen=True, slots=True)
class Prune:
    """Before the step, remove the lowest scores until `share` of the target sparsity is reached; 1 is all of it."""

    share: float


@dataclass(frozen=True, slots=True)
class Restore:
    """Before the step, hold nothing at zero any more; the weights that return start at zero."""


@dataclass(frozen=True, slots=True)
class Rewire:
    """Drop the smallest of each layer's weights and grow as many others, which start at zero.

    Attributes:
        fraction: of each layer's kept weights to drop, rounded down.
        grow: `random`, before the step; or by `gradient`, where the step's batch is spent on the gradients of removed
            weights, and no weight is trained in it (Evci et al. 2020, algorithm 1).
    """

    fraction: float
    grow: Literal["random", "gradient"]


Move = Prune | Restore | Rewire


@dataclass(frozen=True, slots=True)
class Span:
    """The steps a schedule is laid over.

    Attributes:
        start: first step, 0-based.
        total: step after the last.
        per_epoch: steps in an epoch.
        sparsity: what is to be reached, in [0, 1).
    """

    start: int
    total: int
    per_epoch: int
    sparsity: float

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.total - self.start

    def iterations(self, step: Step) -> int:
        """How many steps an amount of time is."""
        return step.iterations(self.per_epoch)


class MaskSchedule(Protocol):
    """Which moves are made at which steps of a span; depends on nothing else, so that training can resume anywhere."""

    def __call__(self, span: Span) -> dict[int, Move]:
        """Step -> move.

        Raises:
            UsageError: the span is too short for the schedule.
        """
        ...


def check_moves(moves: dict[int, Move], span: Span) -> dict[int, Move]:
    """`moves`, if they lie in the span and leave the target reached.

    Raises:
        UsageError: the last pruning is not the whole one, or a move falls outside the steps.
    """
    outside = [step for step in moves if not span.start <= step < span.total]
    settling = [move for _, move in sorted(moves.items(), key=lambda item: item[0]) if not isinstance(move, Rewire)]
    if outside or not settling or settling[-1] != Prune(1.0):
        raise UsageError(
            f"mask schedule: expected moves from step {span.start} to {span.total - 1} that end in the whole target, "
            f"got {f'one at step {outside[0]}' if outside else 'none that does'}; lengthen the training"
        )
    return moves
