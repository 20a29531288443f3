"""Prune in a Lightning training: `Trainer(callbacks=[PruningCallback(sparsity=0.8)])`. Needs the extra `lightning`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Unpack

from sparsify.errors import UnavailableError, UsageError
from sparsify.integrations.pruning import Options, Pruning
from sparsify.masks.mask import Mask

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ImportError:
        try:
            from lightning.pytorch import Callback, LightningModule, Trainer
        except ImportError as error:
            raise UnavailableError(
                f"expected pytorch-lightning, got {error}; pip install 'sparsify-tickets[lightning]'"
            ) from error


class PruningCallback(Callback):
    """Prunes on a schedule and holds the mask exactly, with any optimiser; the mask is part of the checkpoint.

    `one-shot` prunes before the first step; `gradual` raises the sparsity along a cubic over the first three quarters
    of the training. Steps are optimiser steps (`trainer.global_step`).

    Args:
        options: as `integrations.pruning.Pruning` takes them: `sparsity`, `pattern`, `criterion`, `allocation`,
            `overrides`, `schedule`, `batches`, `loss`, `seed`.

    Raises:
        UsageError: an argument makes no sense.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._pruning = Pruning(**options)
        self._restored: Mask | None = None

    @property
    def mask(self) -> Mask | None:
        """What is kept; None before training."""
        return self._pruning.mask

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or go on from a checkpoint."""
        total = trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise UsageError("trainer: expected max_steps or max_epochs, got an endless training; set one")
        epochs = trainer.max_epochs or 0
        per_epoch = round(total / epochs) if epochs > 0 else int(total)
        self._pruning.start(
            pl_module, step=trainer.global_step, total=int(total), per_epoch=per_epoch, mask=self._restored
        )
        self._restored = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Make the move that is due."""
        self._pruning.before(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go; the weights stay zero."""
        self._pruning.finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go."""
        self._pruning.stop()

    def state_dict(self) -> dict[str, Any]:
        """The mask, for the checkpoint."""
        return {} if self.mask is None else {"mask": dict(self.mask)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The mask of a checkpoint, to hold when training starts."""
        self._restored = Mask(state_dict["mask"]) if "mask" in state_dict else None
