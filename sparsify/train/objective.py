"""What a training makes small: a scalar of the inputs and targets of one batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sparsify.train.task import Task

Objective = Callable[[Tensor, Tensor], Tensor]


def plain(model: nn.Module, task: Task, label_smoothing: float) -> Objective:
    """The task's own loss."""

    def objective(images: Tensor, labels: Tensor) -> Tensor:
        return task.loss(model(images), labels, label_smoothing=label_smoothing)

    return objective
