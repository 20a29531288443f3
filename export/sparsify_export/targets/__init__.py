"""Deployment targets: plain data, no torch, no runtime imported. `opening.py` turns one into a `Runtime`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RuntimeName = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a ticket will run."""

    name: str
    summary: str
    runtime: RuntimeName
    provider: Literal["CPU", "CUDA", "TensorRT"] | None
    """ONNX Runtime's execution provider; None for native TensorRT."""
    needs: str
    """What must be there for it to run."""
    sparse: bool = False
    """Whether graphs are rewritten, so that operators skip the zeros of their weights."""
    distributions: tuple[str, ...] = ()
    """Whose versions decide what it does, beside those that every target depends on."""


_ALL = (
    Target(
        name="onnxruntime-cpu",
        summary="ONNX Runtime on the CPU.",
        runtime="onnxruntime",
        provider="CPU",
        needs="pip install 'sparsify-tickets[cpu]' (or [gpu])",
    ),
    Target(
        name="sparse-cpu",
        summary="ONNX Runtime on the CPU, sparse layers replaced by operators that skip zeros.",
        runtime="onnxruntime",
        provider="CPU",
        needs="pip install 'sparsify-tickets[sparse-cpu]', or, in a checkout, `make kernels`",
        sparse=True,
        distributions=("sparsify-kernels",),
    ),
    Target(
        name="onnxruntime-cuda",
        summary="ONNX Runtime on an NVIDIA GPU, CUDA provider.",
        runtime="onnxruntime",
        provider="CUDA",
        needs="an NVIDIA GPU with its driver, and pip install 'sparsify-tickets[gpu]'",
    ),
    Target(
        name="onnxruntime-tensorrt",
        summary="ONNX Runtime on an NVIDIA GPU, TensorRT provider.",
        runtime="onnxruntime",
        provider="TensorRT",
        needs="an NVIDIA GPU with its driver, TensorRT 10, and pip install 'sparsify-tickets[gpu]'",
        distributions=("tensorrt", "tensorrt-cu13"),
    ),
    Target(
        name="tensorrt",
        summary="A TensorRT plan, built and run on this machine's NVIDIA GPU.",
        runtime="tensorrt",
        provider=None,
        needs="an NVIDIA GPU with its driver, and TensorRT 10 or 11 with its Python module",
        distributions=("tensorrt", "tensorrt-cu13"),
    ),
    Target(
        name="tensorrt-rtx",
        summary="A TensorRT-RTX plan, built ahead of time; building needs no GPU, running does.",
        runtime="tensorrt-rtx",
        provider=None,
        needs="pip install 'sparsify-tickets[tensorrt-rtx]' to build; an NVIDIA RTX GPU to run",
        distributions=("tensorrt-rtx",),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}


def skips_zeros(name: str) -> bool:
    """Whether zeros that lie in place save time on the target of this name; not where there is no such target."""
    return name in TARGETS and TARGETS[name].sparse
