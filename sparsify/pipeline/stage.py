"""`Stage`: one unit of work whose output is a folder. Torch-free: the plan is made without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from sparsify.machine import versions
from sparsify_export.targets import TARGETS

Kind = Literal[
    "dense",
    "level",
    "control",
    "probe-arm",
    "probe",
    "test",
    "export",
    "latency",
    "preflight",
    "source",
    "prune",
    "recover",
    "model",
    "compare",
]

# Raised by hand when a stage's body changes what it writes; it makes older outputs of that kind stale.
FORMATS: dict[Kind, int] = {
    "dense": 1,
    "level": 1,
    "control": 1,
    "probe-arm": 1,
    "probe": 1,
    "test": 1,
    "export": 2,
    "latency": 1,
    "preflight": 2,
    "source": 3,
    "prune": 4,
    "recover": 3,
    "model": 2,
    "compare": 1,
}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")  # what else a target runs by, it names itself
_DISTRIBUTIONS: dict[Kind, tuple[str, ...]] = {
    "dense": ("torch",),
    "level": ("torch",),
    "control": ("torch",),
    "probe-arm": ("torch",),
    "probe": ("numpy",),
    "test": ("torch",),
    "export": ("torch", "onnx", *_RUNTIMES),
    "latency": ("torch", *_RUNTIMES),
    "preflight": ("torch", "torch-pruning"),
    "source": ("torch", "onnx"),
    "prune": ("torch", "torch-pruning"),
    "recover": ("torch",),
    "model": ("torch",),
    "compare": ("torch",),
}


@dataclass(frozen=True)
class Stage:
    """One unit of work.

    Attributes:
        path: its folder, relative to the run.
        kind: what does it, see `sparsify.pipeline.work`.
        spec: everything in the recipe and the machine that determines its output.
        parents: role -> path of a stage it reads.
        seeds: the seeds it draws from, for the record.
        derived: whether the folder may be made anew when its key has changed. What took training may not: it is
            never overwritten.
    """

    path: str
    kind: Kind
    spec: BaseModel
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    seeds: Mapping[str, int] = field(default_factory=dict[str, int])
    derived: bool = False

    def spec_json(self) -> dict[str, Any]:
        """The spec as plain values."""
        return self.spec.model_dump(mode="json")

    def versions(self) -> dict[str, str]:
        """The versions that its key depends on."""
        target = TARGETS.get(getattr(self.spec, "target", ""))
        more = () if target is None else target.distributions
        return {"format": str(FORMATS[self.kind])} | versions(*_DISTRIBUTIONS[self.kind], *more)
