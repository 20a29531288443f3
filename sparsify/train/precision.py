"""Which precision a training runs in."""

from __future__ import annotations

from typing import Literal

import torch


def autocast_dtype(precision: Literal["fp32", "bf16", "auto"], device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for plain fp32.

    `auto` takes bf16 where matrix units for it exist: CUDA devices of compute capability 8 and above, and CPUs with
    AMX. Elsewhere bf16 is emulated and slower (`benchmarks/bench_training.py` measures both).
    """
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else None
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else None  # pyright: ignore[reportPrivateUsage]
