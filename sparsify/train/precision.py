"""Which precision a training runs in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


Precision = Literal["fp32", "bf16"]


def settled(precision: Literal["fp32", "bf16", "auto"], device: torch.device, model: nn.Module) -> Precision:
    """What a training asked to run in `precision` runs in: `auto` is decided for this device and model."""
    return "fp32" if autocast_dtype(precision, device, model) is None else "bf16"


def autocast_dtype(
    precision: Literal["fp32", "bf16", "auto"], device: torch.device, model: nn.Module
) -> torch.dtype | None:
    """The autocast dtype for training `model` on `device`, or None for plain fp32.

    `auto` takes bf16 where it was measured to gain: on CUDA devices of compute capability 8 and above, and on CPUs with
    AMX for networks with convolutions, none of them grouped or along one axis alone. There it halves a step of Conv-2
    and of ResNet-20, while LeNet-300-100's takes 1.4 times as long, because casting its weights costs more than
    multiplying by them (`benchmarks/bench_precision.py`), and MobileNetV2's as long for its depthwise convolutions. A
    layer along one axis takes longer in bf16 at most lengths and widths (1.1 to 1.5 times), and CREPE's first, 512 long
    and of one channel, four times.
    """
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else None
    gains = [_gains(module) for module in model.modules() if isinstance(module, _CONVOLUTIONS)]
    return torch.bfloat16 if gains and all(gains) and _has_amx() else None


def _gains(convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    """Whether a CPU's tiles multiply it faster: it mixes all channels, and is pointwise or wide in two axes."""
    return convolution.groups == 1 and sum(length > 1 for length in convolution.kernel_size) != 1


def _has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
