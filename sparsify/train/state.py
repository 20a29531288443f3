"""What changes from one training step to the next beside the model and the optimiser; kept and put back with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sparsify.masks.mask import Mask
from sparsify.train.history import History
from sparsify.train.keeper import Keeper
from sparsify.train.optimizer import optimizer_tensors, restore_optimizer_


@dataclass
class State:
    """Where a training is.

    Attributes:
        step: optimiser steps done, counted from the start of the schedule.
        loss_sum, loss_count: of the training losses since the history's last row.
        history: the curve so far.
        snapshot: the state dict at the step that was asked for, once it has been passed.
        best, best_step: the state dict of the best measurement so far, where early stopping keeps it, and its step.
        stopped: whether early stopping has ended the training.
        mask: what is held now, where a schedule moves it.
    """

    step: int
    loss_sum: float = 0.0
    loss_count: int = 0
    history: History = field(default_factory=History)
    snapshot: dict[str, Tensor] | None = None
    best: dict[str, Tensor] | None = None
    best_step: int | None = None
    stopped: bool = False
    mask: Mask | None = None

    def save(self, keeper: Keeper, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Hand everything that resuming bit for bit takes to `keeper`."""
        tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        tensors |= {f"snapshot/{name}": tensor for name, tensor in (self.snapshot or {}).items()}
        tensors |= {f"best/{name}": tensor for name, tensor in (self.best or {}).items()}
        tensors |= {f"mask/{name}": tensor for name, tensor in (self.mask or {}).items()}
        history = self.history
        keeper.save(
            tensors,
            {
                "step": self.step,
                "loss_sum": self.loss_sum,
                "loss_count": self.loss_count,
                "history": [history.step, history.train_loss, history.validation_loss, history.validation_accuracy],
                "precision": history.precision,
                "best_step": self.best_step,
                "stopped": self.stopped,
            },
        )

    def resume_(self, keeper: Keeper, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put back what `save` handed over, here and in place in `model` and `optimizer`; nothing saved is fine."""
        saved = keeper.load()
        if saved is None:
            return
        tensors, state = saved
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "snapshot": {}, "best": {}, "mask": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        model.load_state_dict(parts["model"])
        restore_optimizer_(optimizer, parts["optimizer"])
        self.snapshot, self.best = parts["snapshot"] or None, parts["best"] or None
        self.mask = Mask(parts["mask"]) if parts["mask"] else None
        self.step, self.loss_sum, self.loss_count = state["step"], state["loss_sum"], state["loss_count"]
        self.best_step, self.stopped = state.get("best_step"), state.get("stopped", False)
        begun = self.history
        precision = state.get("precision", begun.precision)
        self.history = History(*state["history"], validation_images=begun.validation_images, precision=precision)


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict, laid out as usual, that further training leaves alone."""
    usual = torch.contiguous_format
    return {name: tensor.detach().clone(memory_format=usual) for name, tensor in model.state_dict().items()}
