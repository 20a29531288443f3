"""What a plan is built for: precision, sparsity, architecture, and the shapes it must serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparsify.errors import UsageError
from sparsify_export.runtimes.onnx_file import graph_inputs

Shape: TypeAlias = tuple[Annotated[int, Field(ge=1)], ...]
Profiles: TypeAlias = dict[str, tuple[Shape, Shape, Shape]]


class BuildOptions(BaseModel):
    """What a plan is built for. Frozen; unknown keys are refused; part of the cache's key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: Profiles = Field(
        default={}, description="Smallest, most usual and largest shape of each input that has a dynamic axis."
    )
    sparse_weights: bool = Field(
        default=False, description="Whether TensorRT may choose kernels for 2:4 sparse weights."
    )
    strongly_typed: bool = Field(
        default=True, description="Whether layers keep the precision that the ONNX graph gives them."
    )
    precisions: tuple[Literal["fp16", "bf16"], ...] = Field(
        default=(), description="Lower precisions that layers of a weakly typed network may take (TensorRT 10 only)."
    )
    tf32: bool = Field(
        default=True, description="Whether fp32 layers may multiply in TF32, as TensorRT does by default."
    )
    compute_capability: str | None = Field(
        default=None, description="Architecture to build ahead of time for, such as `SM86`; none is the GPU at hand."
    )
    workspace_bytes: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Most scratch memory that a layer may use, in bytes; none leaves it to TensorRT."
    )

    @model_validator(mode="after")
    def _ordered(self) -> BuildOptions:
        for name, (smallest, usual, largest) in self.profiles.items():
            axes = len(smallest) == len(usual) == len(largest)
            if not axes or any(not a <= b <= c for a, b, c in zip(smallest, usual, largest, strict=True)):
                raise ValueError(
                    f"profiles: {name}: expected min <= opt <= max on equal axes, got {self.profiles[name]}"
                )
        if self.precisions and self.strongly_typed:
            raise ValueError(
                "precisions: a strongly typed network takes them from the ONNX graph; leave precisions out"
            )
        return self


def batch_profiles(onnx_path: Path, batch_sizes: Sequence[int]) -> Profiles:
    """Profiles for inputs with a dynamic batch axis: from 1 to the largest of `batch_sizes`, tuned for the first.

    Raises:
        UsageError: If no positive batch size is given, or another axis is dynamic.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise UsageError(f"batch sizes: expected one or more positive numbers, got {list(batch_sizes)}")
    profiles: Profiles = {}
    for source in graph_inputs(onnx_path):
        dynamic = [axis for axis, size in enumerate(source.shape) if isinstance(size, str)]
        if any(dynamic):
            raise UsageError(
                f"{onnx_path}: input {source.name!r}: expected only axis 0 (the batch) to be dynamic, got shape "
                f"{list(source.shape)}; export it with fixed sizes on the other axes"
            )
        if dynamic:
            rest = tuple(size for size in source.shape[1:] if isinstance(size, int))
            largest = max(batch_sizes)
            profiles[source.name] = ((1, *rest), (batch_sizes[0], *rest), (largest, *rest))
    return profiles
