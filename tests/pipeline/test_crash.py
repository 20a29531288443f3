"""Killed at any moment, the same command ends with the same bits."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

# Every kind of training once, long enough that what comes after a checkpoint is in a training more often than not.
LONGER = ("--set", "train.steps=2500it", "--set", "train.eval_every=500it", "--set", "probes=[]", "--only", "tickets")
COMPUTE = ("--set", "replicates=1", "--set", "compute.checkpoint_seconds=0.1")


def start(recipe: Path, root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sparsify", "run", str(recipe), "--run-dir", str(root), *LONGER, *COMPUTE],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(recipe: Path, root: Path) -> None:
    process = start(recipe, root)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()


def weights(root: Path) -> dict[str, str]:
    """SHA-256 of every file of weights, trained and rewound, and of every mask."""
    files = sorted(root.rglob("*.safetensors"))
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def written(root: Path) -> set[tuple[str, int]]:
    """What trainings have written so far."""
    found: set[tuple[str, int]] = set()
    for folder, _, names in os.walk(root):
        for file in (Path(folder, name) for name in names if name.endswith((".safetensors", ".json"))):
            with suppress(FileNotFoundError):  # replaced since it was listed
                found.add((str(file), file.stat().st_mtime_ns))
    return found


def kill_many(recipe: Path, root: Path, times: int, seed: int) -> int:
    """Kill the run at `times` random moments; returns how often it was really running.

    Two of three come soon after it has written something, however long its start took; the others come in its start.
    """
    draw, killed = random.Random(seed), 0
    for number in range(times):
        before, process = written(root), start(recipe, root)
        while number % 3 and process.poll() is None and written(root) == before:
            time.sleep(0.02)
        try:
            process.communicate(timeout=draw.uniform(0, 0.5) if number % 3 else draw.uniform(0.3, 3.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
    return killed


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("whole") / "run"
    finish(tiny, root)
    return weights(root)


@pytest.mark.slow
def test_one_run_killed_many_times_ends_with_the_same_bits(tiny: Path, tmp_path: Path, uninterrupted):
    kills, attempt = 0, 0
    while kills < 12:  # a run that finishes early is checked, and another is killed
        root = tmp_path / f"run_{attempt}"
        kills += kill_many(tiny, root, 12 - kills, seed=attempt)
        finish(tiny, root)
        assert weights(root) == uninterrupted
        assert not list(root.rglob(".tmp-*"))
        attempt += 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_fresh_runs_killed_at_random_moments(tiny: Path, tmp_path: Path, uninterrupted, seed: int):
    kill_many(tiny, tmp_path / "run", 3, seed=100 + seed)
    finish(tiny, tmp_path / "run")
    assert weights(tmp_path / "run") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_polite_signal_checkpoints_and_exits_75(tiny: Path, tmp_path: Path, uninterrupted, number: signal.Signals):
    root = tmp_path / "run"
    process = start(tiny, root)
    deadline = time.monotonic() + 120
    while not list(root.rglob("checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 75, err.decode()
    assert b"resume" in err
    assert list((root / ".partial").rglob("checkpoint.safetensors"))
    finish(tiny, root)
    assert weights(root) == uninterrupted
    assert not list((root / ".partial").rglob("checkpoint.safetensors"))


@pytest.mark.slow
def test_workers_die_with_the_process_that_started_them(tiny: Path, tmp_path: Path):
    process = start(tiny, tmp_path / "run")
    children: list[int] = []
    deadline = time.monotonic() + 60
    while not children and time.monotonic() < deadline:
        children = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        time.sleep(0.05)
    assert children
    process.kill()
    process.communicate()
    time.sleep(1.0)
    assert not [child for child in children if _alive(child)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.6, 1.0, 1.5, 2.2])
def test_a_signal_in_the_first_seconds_is_no_failure(tiny: Path, tmp_path: Path, seconds: float):
    """Workers are importing torch then: they know the signal all the same."""
    process = start(tiny, tmp_path / "run")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    # Before the command has read its arguments the signal ends it, and nothing was begun.
    assert process.returncode == 75 or (process.returncode == -signal.SIGTERM and not (tmp_path / "run").exists()), err
    assert b"Traceback" not in err
