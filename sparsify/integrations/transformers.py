"""Prune in a Hugging Face training: `Trainer(..., callbacks=[PruningCallback(sparsity=0.5)])`. Needs transformers."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Unpack

from torch import nn

from sparsify.errors import UnavailableError
from sparsify.integrations.pruning import Options, Pruning
from sparsify.masks.mask import Mask

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

    A Trainer does not tell its callbacks that training failed: where the network is used afterwards, let go of it by
    `with`, which does in any case. The next training lets go of the last one, too.

    Example:
        >>> with PruningCallback(sparsity=0.5) as pruning:
        ...     Trainer(model, arguments, train_dataset=rows, callbacks=[pruning]).train()

    Args:
        options: as `integrations.pruning.Pruning` takes them: `sparsity`, `pattern`, `criterion`, `allocation`,
            `overrides`, `schedule`, `batches`, `loss`, `seed`. Criteria that look at data call the model with one
            tensor; magnitude and lamp read weights alone.

    Raises:
        UsageError: an argument makes no sense.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._pruning = Pruning(**options)

    def __enter__(self) -> PruningCallback:
        """Itself, for `callbacks`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go; the weights stay zero."""
        self._pruning.stop()

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
