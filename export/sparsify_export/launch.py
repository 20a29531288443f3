"""One process that times one pair of networks: a request as JSON on stdin, a launch as JSON on stdout.

    python -m sparsify_export.launch < request.json

A process of its own, because where a process puts its memory is part of what latency varies with.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sparsify.errors import SparsifyError
from sparsify_export.feed import make_feed, shapes_for
from sparsify_export.measurement import Launch
from sparsify_export.onnx_check import precision_of
from sparsify_export.pairing import measure_pair, pinned
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import open_runtime

WARMUP = 50
"""Inferences of each network before any is timed."""


@dataclass(frozen=True)
class Request:
    """What one launch is asked to do."""

    dense: str
    sparse: str
    target: str
    batch: int | None
    shapes: dict[str, tuple[int, ...]]
    threads: int
    pairs: int
    seed: int
    cores: tuple[int, ...] | None = None
    warmup: int = WARMUP


def perform(request: Request) -> Launch:
    """Time dense against itself and against sparse, on the cores asked for."""
    target = TARGETS[request.target]
    dense, sparse = Path(request.dense), Path(request.sparse)
    inputs, shapes = shapes_for([dense, sparse], request.batch, request.shapes)
    feed = make_feed(inputs, shapes, request.seed)
    batches = (next((shape[0] for shape in shapes.values() if shape), 1),)
    first, twin, other = [
        open_runtime(target, path, threads=request.threads, batch_sizes=batches) for path in (dense, dense, sparse)
    ]
    with pinned(request.cores):
        launch = measure_pair(first, twin, other, feed, pairs=request.pairs, seed=request.seed, warmup=request.warmup)
    facts = {"batch": batches[0], "precision": {"dense": precision_of(dense), "sparse": precision_of(sparse)}}
    return replace(launch, environment={**launch.environment, **facts})


def _die_with_parent() -> None:
    """On Linux ask the kernel to kill this process with the one that waits for it (prctl 1 is PR_SET_PDEATHSIG).

    A measurement that outlived its run would disturb the next one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    """Read a request, answer with a launch, or with an error and its exit code."""
    _die_with_parent()
    values: dict[str, Any] = json.load(sys.stdin)
    shapes = {name: tuple(shape) for name, shape in values.pop("shapes").items()}
    try:
        answer: dict[str, Any] = {"launch": asdict(perform(Request(shapes=shapes, **values)))}
    except SparsifyError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
