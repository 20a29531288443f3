"""Where training stopped being finite: the step and the first layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparsify.data.load import Split
from sparsify.errors import DivergedError

_BATCH = 1000


def check_weights(model: nn.Module, step: int) -> None:
    """Raise DivergedError naming the first parameter or buffer that is not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DivergedError(
                f"training diverged at step {step}: expected finite weights, got nan or inf in {name}; lower "
                "train.optimizer.lr, lengthen train.schedule.warmup or set train.gradient_clip"
            )


def diverged(model: nn.Module, images: Tensor, step: int) -> DivergedError:
    """The error for a training loss that is not finite: names the first weight, else the first output, that is not."""
    try:
        check_weights(model, step)
    except DivergedError as error:
        return error
    return _loss_error("loss", _first_nonfinite(model, images), step)


def check_validation_loss(loss: float, model: nn.Module, validation: Split, step: int) -> None:
    """Raise DivergedError where the loss on `validation` is not finite; the model is left in eval mode.

    The weights may well be finite then: nan in the images, or batch norm's running variance near zero.
    """
    if not math.isfinite(loss):
        model.eval()
        layers = (_first_nonfinite(model, inputs) for inputs, _ in validation.batches(_BATCH))
        raise _loss_error("validation loss", next(filter(None, layers), None), step)


def _loss_error(what: str, layer: str | None, step: int) -> DivergedError:
    where = "with every layer's output finite" if layer is None else f"first in {layer}"
    return DivergedError(
        f"training diverged at step {step}: expected a finite {what}, got nan or inf, {where}; "
        "lower train.optimizer.lr, set train.gradient_clip, or look for nan in the data"
    )


@torch.no_grad()
def _first_nonfinite(model: nn.Module, images: Tensor) -> str | None:
    """What comes first in a forward pass that is not finite: the images, or the output of a layer, by name."""
    if not bool(torch.isfinite(images).all()):
        return "the input images"
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(f"the output of {name}")

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in model.named_modules() if name and not list(module.children())]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
