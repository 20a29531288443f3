"""Where training stopped being finite: the step and the first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsify.errors import DivergedError


def check_weights(model: nn.Module, step: int) -> None:
    """Raise DivergedError naming the first parameter or buffer that is not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DivergedError(
                f"training diverged at step {step}: expected finite weights, got nan or inf in {name}; lower "
                "train.optimizer.lr, lengthen train.schedule.warmup or set train.gradient_clip"
            )


def diverged(model: nn.Module, images: Tensor, step: int) -> DivergedError:
    """The error for a loss that is not finite: names the first weight, else the first layer's output, that is not."""
    try:
        check_weights(model, step)
    except DivergedError as error:
        return error
    layer = _first_nonfinite_output(model, images) or "the loss itself"
    return DivergedError(
        f"training diverged at step {step}: expected a finite loss, got nan or inf, first in the output of {layer}; "
        "lower train.optimizer.lr, set train.gradient_clip, or look for nan in the data"
    )


@torch.no_grad()
def _first_nonfinite_output(model: nn.Module, images: Tensor) -> str | None:
    found: list[str] = []

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if not found and not bool(torch.isfinite(output).all()):
                found.append(name)

        return model.get_submodule(name).register_forward_hook(hook)

    if not bool(torch.isfinite(images).all()):
        return "the input images"
    handles = [watch(name) for name, module in model.named_modules() if name and not list(module.children())]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
