"""Any ONNX files side by side: each compared with the first, for every batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsify.errors import UsageError
from sparsify.recipe.misfit import near
from sparsify_export.feed import shapes_for
from sparsify_export.latency import Latency, cores_for, measure
from sparsify_export.launch import Request
from sparsify_export.targets import TARGETS, Target
from sparsify_export.targets.opening import require_run

_FEWEST_PAIRS = 20


@dataclass(frozen=True)
class BenchSpec:
    """What is timed, and how."""

    files: tuple[Path, ...]
    """Two or more; each is compared with the first."""
    runtime: str = "onnxruntime-cpu"
    threads: int = 1
    batches: tuple[int, ...] = ()
    """Sizes of a dynamic first axis; empty for what the graph or `shapes` say, or 1."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    pairs: int = 400
    launches: int = 1
    equivalence: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """One file beside the first, at one batch size (None: as the graph says)."""

    first: Path
    other: Path
    batch: int | None
    latency: Latency

    def to_json(self) -> dict[str, Any]:
        """`speedup`, `ci_low`, `ci_high`, `verdict`, `pairs` and, under `samples`, every launch whole."""
        names = {"first": str(self.first), "other": str(self.other), "batch": self.batch}
        return {**names, **self.latency.comparison(), "samples": self.latency.to_json()["launches"]}


def bench(spec: BenchSpec, done: Callable[[], None] = lambda: None) -> list[Comparison]:
    """Time every pair; `done` is called `launches_of(spec)` times.

    Raises:
        UsageError: The options or the files do not fit together.
        UnavailableError: The runtime cannot run here; the message says what is missing.
        CorruptError: A file is no valid ONNX, or the runtime cannot load it.
        InputOutputError: A file is missing.
    """
    target = _checked(spec)
    cores = cores_for(spec.threads)
    found: list[Comparison] = []
    for batch in spec.batches or (None,):
        for other in spec.files[1:]:
            request = Request(
                dense=str(spec.files[0]),
                sparse=str(other),
                target=target.name,
                batch=batch,
                shapes=dict(spec.shapes),
                threads=spec.threads,
                pairs=spec.pairs,
                seed=spec.seed,
                cores=cores,
            )
            latency = measure(request, launches=spec.launches, equivalence=spec.equivalence, done=done)
            found.append(Comparison(spec.files[0], other, batch, latency))
    return found


def launches_of(spec: BenchSpec) -> int:
    """How many processes will measure."""
    return max(1, len(spec.batches)) * (len(spec.files) - 1) * spec.launches


def _checked(spec: BenchSpec) -> Target:
    """Everything that can be wrong, before the first measurement."""
    if len(spec.files) < 2:
        raise UsageError("expected two ONNX files or more, the first being what the others are compared with, got one")
    if spec.pairs < _FEWEST_PAIRS:
        raise UsageError(f"--pairs: expected {_FEWEST_PAIRS} or more, got {spec.pairs}; 200 is usual")
    if spec.threads < 1 or spec.launches < 1 or any(batch < 1 for batch in spec.batches):
        raise UsageError("--threads, --launches and --batch: expected 1 or more")
    if not 0 < spec.equivalence < 1:
        raise UsageError(f"--equivalence: expected a number between 0 and 1, got {spec.equivalence}")
    if spec.runtime not in TARGETS:
        mend = near(spec.runtime, TARGETS) or "see `sparsify ls targets`"
        raise UsageError(f"--target: expected one of {', '.join(TARGETS)}, got {spec.runtime!r}; {mend}")
    for batch in spec.batches or (None,):
        shapes_for(spec.files, batch, spec.shapes)
    target = TARGETS[spec.runtime]
    require_run(target)
    return target
