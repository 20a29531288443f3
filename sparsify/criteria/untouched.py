"""Run a network without leaving a trace in it: not in weights, gradients, buffers, modes or the global random state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

# (tensors by parameter or buffer name to take the place of the network's, inputs) -> output
Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Generator[Call]:
    """The network in eval mode, as a function of some of its tensors and of its inputs.

    In eval mode dropout does nothing and batch norm uses its running statistics: the function that is scored is the
    one that will be deployed. Parameters are detached, so frozen ones are as good as any and no `.grad` is written;
    buffers are copied for each call, so whatever updates them updates the copy. Inputs are moved to the network's
    device. On leaving, each module's mode and the global random state are put back.
    """
    modes = {module: module.training for module in model.modules()}
    parameters = {name: ordinary(parameter) for name, parameter in model.named_parameters()}
    device = device_of(model)

    def call(replaced: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        return functional_call(model, {**buffers, **parameters, **replaced}, (ordinary(inputs).to(device),))

    cuda = [device] if device.type == "cuda" else []
    try:
        for module in modes:
            module.training = False
        with torch.random.fork_rng(devices=cuda):
            yield call
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter; the CPU for a network without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, detached; copied where it was made in inference mode, which autograd would refuse."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor.detach()
