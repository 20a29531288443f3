"""A full disk: a clear error, the levels before it intact, and the same command goes on once there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsify.store.run import Run
from sparsify.store.stage import check_stage


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 256 KiB, too small for a run of `tiny` and large enough for its first trainings."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs; tests/store/test_atomic.py has a stand-in")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(small_disk: Path, tiny: Path, tmp_path: Path, outside):
    root = small_disk / "run"
    done = outside("run", tiny, "--run-dir", root, "--only", "tickets")
    assert done.returncode == 9, done.stderr
    assert "No space left" in done.stderr and str(root) in done.stderr
    stages = Run.load(root).stages()
    assert any(path.endswith("/dense") for path in stages), sorted(stages)  # of whichever replicate came first
    for path, record in stages.items():
        check_stage(root / path, record)
    assert not list(root.rglob(".tmp-*"))
    roomy = Path(shutil.copytree(root, tmp_path / "run"))
    assert outside("run", tiny, "--run-dir", roomy, "--only", "tickets").returncode == 0
    assert set(stages) < set(Run.load(roomy).stages())
