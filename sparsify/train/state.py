"""What changes from one training step to the next beside the model and the optimiser; kept and put back with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

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
    """

    step: int
    loss_sum: float = 0.0
    loss_count: int = 0
    history: History = field(default_factory=History)
    snapshot: dict[str, Tensor] | None = None

    def save(self, keeper: Keeper, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Hand everything that resuming bit for bit takes to `keeper`."""
        tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        tensors |= {f"snapshot/{name}": tensor for name, tensor in (self.snapshot or {}).items()}
        history = self.history
        keeper.save(
            tensors,
            {
                "step": self.step,
                "loss_sum": self.loss_sum,
                "loss_count": self.loss_count,
                "history": [history.step, history.train_loss, history.validation_loss, history.validation_accuracy],
            },
        )

    def resume_(self, keeper: Keeper, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put back what `save` handed over, here and in place in `model` and `optimizer`; nothing saved is fine."""
        saved = keeper.load()
        if saved is None:
            return
        tensors, state = saved
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "snapshot": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        model.load_state_dict(parts["model"])
        restore_optimizer_(optimizer, parts["optimizer"])
        self.snapshot = parts["snapshot"] or None
        self.step, self.loss_sum, self.loss_count = state["step"], state["loss_sum"], state["loss_count"]
        self.history = History(*state["history"], validation_images=self.history.validation_images)
