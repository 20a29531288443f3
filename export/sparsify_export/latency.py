"""Dense against sparse, over fresh processes: the door to measuring. The record is `measurement.Latency`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, InputOutputError, SparsifyError, UnavailableError, UsageError
from sparsify.machine import usable_cores
from sparsify.recipe.spec import LatencySpec
from sparsify_export.launch import Request
from sparsify_export.measurement import Latency as Latency
from sparsify_export.measurement import Launch as Launch
from sparsify_export.measurement import Samples as Samples
from sparsify_export.measurement import launch_from_json
from sparsify_export.pairing import measure_pair as measure_pair
from sparsify_export.targets import Target

DENSE, MODEL = "dense.onnx", "model.onnx"
_BY_CODE = {error.exit_code: error for error in (UsageError, UnavailableError, CorruptError, InputOutputError)}


def measure_target(folder: Path, *, target: Target, spec: LatencySpec, seed: int = 0) -> Latency:
    """Time `folder`'s `dense.onnx` against its `model.onnx` as the recipe's `latency` says.

    Raises:
        UnavailableError: The target cannot run here; the message says what is missing.
        UsageError: More threads than cores, or shapes that do not fit.
        CorruptError: An ONNX file cannot be loaded.
    """
    request = Request(
        dense=str(folder / DENSE),
        sparse=str(folder / MODEL),
        target=target.name,
        batch=spec.batch_size,
        shapes={},
        threads=spec.threads,
        pairs=spec.pairs,
        seed=seed,
        cores=cores_for(spec.threads),
    )
    return measure(request, launches=spec.launches, equivalence=spec.equivalence)


def measure(request: Request, *, launches: int, equivalence: float, done: Callable[[], None] = lambda: None) -> Latency:
    """Perform `request` in so many fresh processes, one after another; the n-th takes `request.seed + n`.

    `done` is called after each.
    """
    if launches < 1:
        raise UsageError(f"launches: expected 1 or more, got {launches}; 3 are usual")
    taken: list[Launch] = []
    for number in range(launches):
        taken.append(_launch(replace(request, seed=request.seed + number)))
        done()
    return Latency(tuple(taken), equivalence)


def cores_for(threads: int) -> tuple[int, ...] | None:
    """The cores to run on: the last ones, since the first serves interrupts. None where a process cannot be pinned.

    Raises:
        UsageError: More threads than this process may use cores.
    """
    if threads > usable_cores():
        raise UsageError(f"threads: expected up to {usable_cores()}, the cores this process may use, got {threads}")
    return tuple(sorted(os.sched_getaffinity(0))[-threads:]) if hasattr(os, "sched_getaffinity") else None


def _launch(request: Request) -> Launch:
    """One fresh process; its errors are raised here as they were there."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sparsify_export.launch"],
        input=json.dumps(asdict(request)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # it imports what this process does
    )
    try:
        answer: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise SparsifyError(
            f"latency: the measuring process ended with {done.returncode} and no answer: {last}"
        ) from error
    if "error" in answer:
        raise _BY_CODE.get(answer["exit_code"], SparsifyError)(answer["error"])
    return launch_from_json(answer["launch"])
