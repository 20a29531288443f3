"""Fresh processes really start here, with few pairs; what the times are is never asserted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from small_graphs import write_linear
from sparsify.errors import CorruptError, InputOutputError, SparsifyError, UnavailableError, UsageError
from sparsify.machine import usable_cores
from sparsify.recipe.spec import LatencySpec
from sparsify_export import latency
from sparsify_export.latency import DENSE, MODEL, cores_for, measure, measure_target
from sparsify_export.launch import Request, perform
from sparsify_export.targets import TARGETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_linear(tmp_path / DENSE)
    write_linear(tmp_path / MODEL, seed=1)
    return tmp_path


def request(folder: Path, **changes: object) -> Request:
    values: dict = {
        "dense": str(folder / DENSE),
        "sparse": str(folder / MODEL),
        "target": "onnxruntime-cpu",
        "batch": 2,
        "shapes": {},
        "threads": 1,
        "pairs": 20,
        "seed": 5,
        "warmup": 2,
    }
    return Request(**values | changes)


def test_a_target_is_measured_in_fresh_processes(folder: Path):
    spec = LatencySpec(batch_size=4, pairs=20, launches=2, equivalence=0.1)
    found = measure_target(folder, target=TARGETS["onnxruntime-cpu"], spec=spec, seed=3)
    assert [launch.seed for launch in found.launches] == [3, 4]
    assert [len(launch.ab) for launch in found.launches] == [20, 20]
    assert found.equivalence == 0.1
    facts = found.launches[0].environment
    assert (facts["batch"], facts["precision"]) == (4, {"dense": "float32", "sparse": "float32"})
    assert facts["inputs"]["input"]["shape"] == [4, 3]
    assert all(value > 0 for value in found.dense_ms + found.sparse_ms)
    assert found.launches[0].dense["threads"] == 1


def test_errors_of_the_process_are_raised_here(folder: Path):
    (folder / MODEL).write_bytes(b"junk")
    with pytest.raises(CorruptError, match=r"model\.onnx"):
        measure(request(folder), launches=1, equivalence=0.05)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"error": "no", "exit_code": 6}', UnavailableError),
        ('{"error": "no", "exit_code": 9}', InputOutputError),
        ('{"error": "no", "exit_code": 1}', SparsifyError),
        ("", SparsifyError),
    ],
)
def test_exit_codes_become_errors_again(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, expected: type):
    done = SimpleNamespace(stdout=answer, stderr="Traceback\nMemoryError: no", returncode=-9)
    monkeypatch.setattr(latency.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(expected, match="no"):
        measure(request(folder), launches=1, equivalence=0.05)


def test_done_is_told_of_every_launch(folder: Path, monkeypatch: pytest.MonkeyPatch):
    taken = perform(request(folder))
    monkeypatch.setattr(latency, "_launch", lambda asked: taken)
    told: list[None] = []
    measure(request(folder), launches=3, equivalence=0.05, done=lambda: told.append(None))
    assert len(told) == 3


def test_no_launches_are_refused(folder: Path):
    with pytest.raises(UsageError, match="launches: expected 1 or more"):
        measure(request(folder), launches=0, equivalence=0.05)


def test_more_threads_than_cores_are_refused():
    with pytest.raises(UsageError, match="threads: expected up to"):
        cores_for(usable_cores() + 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_a_launch_runs_on_the_cores_asked_for(folder: Path):
    cores = cores_for(1)
    assert cores == (max(os.sched_getaffinity(0)),)
    before = os.sched_getaffinity(0)
    assert perform(request(folder, cores=cores)).environment["affinity"] == list(cores)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("target", ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"])
def test_a_target_that_cannot_run_here_never_falls_back(folder: Path, target: str):
    if subprocess.run(["sh", "-c", "command -v nvidia-smi"], capture_output=True, check=False).returncode == 0:
        pytest.skip("there is a GPU here")
    with pytest.raises(UnavailableError, match="NVIDIA GPU"):
        perform(request(folder, target=target))
