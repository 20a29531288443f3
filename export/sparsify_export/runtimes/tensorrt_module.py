"""The two TensorRT modules, what each lacks here, and the one place where their versions differ.

`tensorrt` (10 and 11) builds and runs on the GPU at hand. `tensorrt-rtx` has the same API, also builds ahead of time
for a named architecture without any GPU, and compiles the last kernels where it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sparsify.errors import UnavailableError, UsageError
from sparsify_export.runtimes import gpu

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_INSTALL = {
    "tensorrt": "pip install 'sparsify-tickets[gpu]' (NVIDIA's wheel fetches its libraries from NVIDIA's own index)",
    "tensorrt-rtx": "pip install 'sparsify-tickets[tensorrt-rtx]'",
}


@dataclass(frozen=True)
class Lack:
    """One thing that is missing here, and what would make it available."""

    what: str
    mend: str


def load_module(name: str) -> Any:
    """The Python module of `tensorrt` or `tensorrt-rtx`.

    Raises:
        UsageError: For another name.
        UnavailableError: If it is not installed or its libraries do not load; the message names what to install.
    """
    if name not in MODULES:
        raise UsageError(f"module: expected one of {', '.join(MODULES)}, got {name!r}")
    try:
        return import_module(MODULES[name])
    except (ImportError, OSError) as error:
        raise UnavailableError(f"{name} cannot be imported ({error}): {_INSTALL[name]}") from error


def build_lacks(name: str) -> tuple[Lack, ...]:
    """What keeps `name` from building a plan here; empty when nothing does."""
    lacks = _module_lack(name)
    return lacks if name == "tensorrt-rtx" else (*_gpu_lack(), *lacks)


def run_lacks(name: str) -> tuple[Lack, ...]:
    """What keeps `name` from running a plan here; empty when nothing does. Imports torch where the rest is present."""
    return (*_gpu_lack(), *_module_lack(name), *_torch_lack())


def refuse_lacks(purpose: str, lacks: Sequence[Lack]) -> None:
    """Raise UnavailableError that lists every lack with its mend; do nothing when there is none."""
    if lacks:
        missing = "; ".join(lack.what for lack in lacks)
        mend = "; ".join(lack.mend for lack in lacks)
        raise UnavailableError(f"{purpose} is not available here: {missing}. To make it so: {mend}")


def _gpu_lack() -> tuple[Lack, ...]:
    found = gpu.probe()
    return () if found.gpus else (Lack(found.reason, found.mend),)


def _module_lack(name: str) -> tuple[Lack, ...]:
    try:
        load_module(name)
    except UnavailableError as error:
        return (Lack(f"no Python module {MODULES[name]} ({error.__cause__})", _INSTALL[name]),)
    return ()


def _torch_lack() -> tuple[Lack, ...]:
    import torch

    if torch.version.cuda is None:
        return (Lack(f"torch is built without CUDA ({torch.__version__})", "install the CUDA build of torch"),)
    if not torch.cuda.is_available():
        return (Lack("torch sees no GPU (torch.cuda.is_available() is False)", "update the NVIDIA driver"),)
    return ()


# What differs between TensorRT 10, TensorRT 11 and TensorRT RTX. The rest of the API is one.


def always_strongly_typed(trt: Any) -> bool:
    """Whether every network takes its types from the ONNX graph: TensorRT 11 and RTX dropped the FP16 flags."""
    return not hasattr(trt.BuilderFlag, "FP16")


def create_network(trt: Any, builder: Any, *, strongly_typed: bool) -> Any:
    """An empty network, strongly typed if asked; TensorRT 10 knows both ways, later ones only that.

    Raises:
        UsageError: If a weakly typed network is asked of a module that has none.
    """
    if always_strongly_typed(trt):
        if not strongly_typed:
            raise UsageError(
                f"strongly_typed: expected true, got false: TensorRT {trt.__version__} builds only strongly typed "
                "networks; export the ONNX graph in the precision you want"
            )
        return builder.create_network(0)
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strongly_typed else 0)


def set_precision(trt: Any, config: Any, precision: str) -> None:
    """Allow layers of a weakly typed network to run in `fp16` or `bf16` (TensorRT 10 only)."""
    config.set_flag(getattr(trt.BuilderFlag, precision.upper()))


def set_architecture(trt: Any, config: Any, sm: str | None) -> None:
    """Build for the architecture `sm` (`SM86`); None is the GPU at hand.

    Raises:
        UsageError: If the module cannot build for it; the message lists what it can.
    """
    known = architectures(trt)
    if sm is None:
        if known:
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
        return
    if sm not in known:
        possible = f"one of {', '.join(known)}" if known else "none: this module builds for the GPU at hand only"
        raise UsageError(f"compute_capability: expected {possible}, got {sm!r} (TensorRT {trt.__version__})")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(trt.ComputeCapability.__members__[sm], 0):
        raise UsageError(f"compute_capability: TensorRT {trt.__version__} refused {sm}; it knows {', '.join(known)}")


def architectures(trt: Any) -> tuple[str, ...]:
    """Architectures that the module builds for ahead of time; empty for `tensorrt`, which needs the GPU itself."""
    if not hasattr(trt, "ComputeCapability"):
        return ()
    return tuple(name for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
