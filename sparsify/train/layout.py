"""Where a convolution's channels lie in memory while it is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def fastest_layout(model: nn.Module, optimizer: torch.optim.Optimizer, dtype: torch.dtype | None) -> Generator[None]:
    """Train inside: on a CPU, the weights of 2-D convolutions have their channels last, and what is computed follows.

    A step of ResNet-20 takes about 0.6 of the time in bf16 and 0.8 in fp32 (`benchmarks/bench_precision.py`). Values
    and shapes stay the same, and the model is laid out as usual again when training ends, however it ends. What
    `_unfit` names keeps a network as it is.

    Args:
        model: laid out in place.
        optimizer: over its parameters; the moments it keeps of them follow.
        dtype: what the training is autocast to; None for fp32.
    """
    convolutions = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    unfit = any(_unfit(module, dtype) for module in convolutions)
    if next(model.parameters()).device.type != "cpu" or not convolutions or unfit:
        yield
        return
    _lay_out(model, optimizer, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(model, optimizer, torch.contiguous_format)


def _unfit(convolution: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype | None) -> bool:
    """Whether torch's convolutions (oneDNN 3.12) are wrong, or not always the same, with its channels last.

    - Taller than one and of width one, in fp32 with AVX-512: the packed weights are read past their end where inputs
      are no multiple of 16 and the kernel is some 30 or more tall. Outputs were wrong by half of their size, or nan.
    - 1x1 with a stride and fewer than 8 inputs, with AVX2: the gradient of the weights writes past its room, which
      ends in a crash of the allocator (https://github.com/uxlfoundation/oneDNN/issues/6035).
    - Grouped in bf16: other bits in one training of two.

    Transposed convolutions are the same backwards. Elsewhere 3,600 random convolutions of both kinds, forwards and
    backwards among guards of nan, were right.
    """
    height, width = convolution.kernel_size
    tall = height > 1 and width == 1
    inputs = convolution.in_channels if isinstance(convolution, nn.Conv2d) else convolution.out_channels
    narrow = (height, width) == (1, 1) and max(convolution.stride) > 1 and inputs < 8
    return tall or narrow or (convolution.groups > 1 and dtype is not None)


def _lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Weights, and the moments kept of them: a fused optimiser walks over both as they lie in memory."""
    for weight in model.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=layout)
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                state[key] = value.to(memory_format=layout)
