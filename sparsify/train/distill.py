"""Knowledge distillation: a network learns to imitate another, its teacher, most often the dense network it came from.

Outputs: Hinton et al. 2015, arXiv 1503.02531. Features: Romero et al. 2015 (FitNets), arXiv 1412.6550.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import DistillSpec
from sparsify.train.objective import Objective
from sparsify.train.task import Task


@dataclass(frozen=True)
class Distillation:
    """Whom to imitate, and how.

    Attributes:
        teacher: another network of the same inputs and outputs, on the same device; used in eval mode, never changed.
        spec: temperature, weights, and the modules whose outputs are compared.
    """

    teacher: nn.Module
    spec: DistillSpec


@contextmanager
def distilled(model: nn.Module, distillation: Distillation, task: Task, label_smoothing: float) -> Generator[Objective]:
    """The objective (1 - w) task + w imitation + v sum of mean squared errors of features; w = 1 reads no labels.

    The hooks on both networks go when the block ends.

    Raises:
        UsageError: the teacher is the model itself, or lacks a feature, or its features have other shapes.
    """
    teacher, spec = distillation.teacher, distillation.spec
    if teacher is model:
        raise UsageError("distillation: expected a teacher apart from the model, got the model itself; copy it first")
    training = teacher.training
    teacher.eval()
    with ExitStack() as hooks:
        hooks.callback(teacher.train, training)
        ours = {name: hooks.enter_context(_output_of(model, name)) for name in spec.features}
        theirs = {name: hooks.enter_context(_output_of(teacher, name)) for name in spec.features}

        def objective(images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                shown = teacher(images)
            output = model(images)
            loss = spec.weight * task.imitation(output, shown, temperature=spec.temperature)
            if spec.weight < 1:
                loss = loss + (1 - spec.weight) * task.loss(output, labels, label_smoothing=label_smoothing)
            for name in spec.features:
                loss = loss + spec.feature_weight * _feature_error(name, ours[name], theirs[name])
            return loss

        yield objective


@contextmanager
def _output_of(model: nn.Module, name: str) -> Generator[list[Tensor]]:
    """A list that holds what the module `name` gave last."""
    modules = dict(model.named_modules())
    if name not in modules:
        known = ", ".join(known for known in modules if known)
        raise UsageError(f"distill.features: expected a module's name, got {name!r}; there are {known}")
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise UsageError(
                f"distill.features: {name}: expected a module that gives one tensor, got {type(output).__name__}; "
                "name a module inside it"
            )
        seen[:] = [output]

    handle = modules[name].register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def _feature_error(name: str, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    if not ours or not theirs:
        raise UsageError(f"distill.features: {name}: expected a module that the forward pass calls, and it was not")
    if ours[0].shape != theirs[0].shape:
        raise UsageError(
            f"distill.features: {name}: expected features of one shape, got {tuple(ours[0].shape)} and the teacher's "
            f"{tuple(theirs[0].shape)}; name modules whose channels were not removed"
        )
    return functional.mse_loss(ours[0].float(), theirs[0].float())
