"""A recipe small enough to run whole in seconds, and one whole run of it that tests read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from one_process import sparsify_here

TINY = """\
name: tiny
model: mlp:64-20-10
data: digits
train: {steps: 60it, batch_size: 60, eval_every: 20it}
prune: {levels: 2, prune_fraction: 0.5, rewind: 10it}
replicates: 2
controls:
  - {name: reinit, levels: [1]}
  - {name: shuffled-mask, levels: [2]}
  - {name: random-mask, levels: [2]}
  - {name: one-shot, levels: [2]}
probes:
  - {name: perturb-rest, levels: [2], redraws: 1, scales: [0, 1]}
latency: {pairs: 20, launches: 1}
gate: {size: 0.9}
compute: {checkpoint_seconds: 0.05}
"""

Sparsify = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def sparsify() -> Sparsify:
    """`sparsify(*arguments)`: the console script, in this process, its stages too."""
    return sparsify_here


@pytest.fixture(scope="session")
def outside() -> Sparsify:
    """The same in a process of its own, its stages in others: where processes are what is tested."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sparsify", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "160"},
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def finished(tiny: Path, outside: Sparsify, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, to be read and not written to."""
    root = tmp_path_factory.mktemp("runs") / "tiny"
    done = outside("run", tiny, "--run-dir", root)
    assert done.returncode == 0, done.stderr
    return root
