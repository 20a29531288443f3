"""Prune in a Hugging Face training: `Trainer(..., callbacks=[PruningCallback(sparsity=0.5)])`. Needs transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sparsify.criteria.context import Batch, Loss
from sparsify.criteria.registry import Criterion
from sparsify.errors import UnavailableError
from sparsify.integrations.pruning import Pruning, Schedule
from sparsify.masks.allocate import Allocation
from sparsify.masks.mask import Mask
from sparsify.recipe.pattern import Pattern

try:
    from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
    from transformers.training_args import TrainingArguments
except ImportError as error:
    raise UnavailableError(f"expected transformers, got {error}; pip install 'sparsify-tickets[hf]'") from error


class PruningCallback(TrainerCallback):
    """Prunes on a schedule and holds the mask exactly, with any optimiser; resumes from a checkpoint's zeros.

    `one-shot` prunes before the first step; `gradual` raises the sparsity along a cubic over the first three quarters
    of the training. Steps are optimiser steps (`state.global_step`). Where the best checkpoint is loaded at the end
    and was saved before the last pruning, the final mask is applied to it.

    Args:
        sparsity: fraction to remove in the end, of the layers that compete; n:m sets its own.
        pattern: `unstructured`, `n:m` or `block:RxC`.
        criterion: a name (`sparsify ls criteria`), or a function of a `Context` to scores. Those that look at data
            call the model with one tensor; magnitude and lamp read weights alone.
        allocation: how layers share the sparsity; None is `global` where the criterion's scores allow it.
        overrides: glob over the model's parameter names -> sparsity of its own; 0 leaves a layer dense.
        schedule: `one-shot`, `gradual`, `iterative`, `acdc`, or a spec such as `GradualSpec(until=0.5)`.
        batches: (inputs, targets) pairs for criteria that look at data.
        loss: (output, target) -> scalar, for criteria that take gradients.
        seed: of what the criterion draws.

    Raises:
        UsageError: an argument makes no sense.
    """

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        pattern: str | Pattern = "unstructured",
        criterion: str | Criterion = "magnitude",
        allocation: Allocation | None = None,
        overrides: Mapping[str, float] | None = None,
        schedule: str | Schedule = "one-shot",
        batches: Sequence[Batch] = (),
        loss: Loss | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._pruning = Pruning(
            sparsity=sparsity,
            pattern=pattern,
            criterion=criterion,
            allocation=allocation,
            overrides=overrides,
            schedule=schedule,
            batches=batches,
            loss=loss,
            seed=seed,
        )

    @property
    def mask(self) -> Mask | None:
        """What is kept; None before training."""
        return self._pruning.mask

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin, or go on from a checkpoint whose weights are loaded."""
        assert model is not None, "the Trainer names the model"
        per_epoch = round(state.max_steps / max(state.num_train_epochs, 1))
        self._pruning.start(model, step=state.global_step, total=state.max_steps, per_epoch=per_epoch)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the move that is due."""
        self._pruning.before(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let go; the weights stay zero."""
        self._pruning.finish()
