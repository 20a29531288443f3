"""Early stopping on validation with patience; the best weights seen are kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sparsify.recipe.prune_spec import EarlyStopSpec
from sparsify.train.history import History
from sparsify.train.state import State, copy_state


@dataclass(frozen=True)
class EarlyStop:
    """Whether to stop, and what to keep.

    Attributes:
        spec: patience, and what is watched.
        settled: step of the mask's last move; rows of the history up to it do not count, their mask was another.
    """

    spec: EarlyStopSpec
    settled: int

    def note(self, state: State, model: nn.Module) -> bool:
        """Keep the weights just measured if they are the best so far; whether patience has run out."""
        rows = [row for row, step in enumerate(state.history.step) if step > self.settled]
        if not rows:
            return False
        best = best_row(state.history, rows, self.spec)
        if best == rows[-1]:
            state.best = copy_state(model)
            state.best_step = state.step
        return rows[-1] - best >= self.spec.patience


def best_row(history: History, rows: list[int], spec: EarlyStopSpec) -> int:
    """The row of the highest metric or the lowest loss, the first of equals."""
    if spec.watch == "loss":
        return min(rows, key=lambda row: history.validation_loss[row])
    return max(rows, key=lambda row: history.validation_accuracy[row])
