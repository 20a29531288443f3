"""Is there a GPU, and which? Asked of the NVIDIA driver itself, by `ctypes`: neither torch nor TensorRT is imported.

TensorRT's own runtime can crash at its first call where there is no driver, so this is asked first. The calls are the
CUDA driver API's: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_INSTALL = "install NVIDIA's driver on a machine with an NVIDIA GPU; in a container, start it with `--gpus all`"


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver describes it; `driver` is the CUDA version that the driver supports."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    driver: str

    @property
    def sm(self) -> str:
        """The architecture's name, `SM86` for compute capability 8.6."""
        major, minor = self.compute_capability
        return f"SM{major}{minor}"


@dataclass(frozen=True)
class GpuProbe:
    """What was found: GPUs, or the reason that there are none and what would mend it."""

    gpus: tuple[Gpu, ...]
    reason: str = ""
    mend: str = ""


def probe(load: Callable[[str], Any] = ctypes.CDLL) -> GpuProbe:
    """The GPUs this process may use (`CUDA_VISIBLE_DEVICES` is honoured), or why there are none. Never raises."""
    try:
        driver = load(_DRIVER)
    except OSError:
        return GpuProbe((), f"no NVIDIA driver here ({_DRIVER} was not found)", _INSTALL)
    if code := driver.cuInit(0):
        if code == _NO_DEVICE:
            return GpuProbe((), "the NVIDIA driver finds no GPU", "attach a GPU, or mend CUDA_VISIBLE_DEVICES")
        return GpuProbe((), f"the NVIDIA driver does not start (cuInit answered {code})", "see what `nvidia-smi` says")
    count = _integer(driver.cuDeviceGetCount)
    if not count:
        return GpuProbe((), "the NVIDIA driver finds no GPU", "attach a GPU, or mend CUDA_VISIBLE_DEVICES")
    return GpuProbe(tuple(_describe(driver, index) for index in range(count)))


def _describe(driver: Any, index: int) -> Gpu:
    device = _integer(driver.cuDeviceGet, index)
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, 256, device)
    memory = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major = _integer(driver.cuDeviceGetAttribute, _COMPUTE_CAPABILITY_MAJOR, device)
    minor = _integer(driver.cuDeviceGetAttribute, _COMPUTE_CAPABILITY_MINOR, device)
    version = _integer(driver.cuDriverGetVersion)
    return Gpu(
        index=index,
        name=name.value.decode(errors="replace"),
        compute_capability=(major, minor),
        memory_bytes=memory.value,
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def _integer(call: Callable[..., int], *arguments: int) -> int:
    """The integer that a driver call writes through its first argument; 0 where the call fails."""
    value = ctypes.c_int(0)
    return 0 if call(ctypes.byref(value), *arguments) else value.value
