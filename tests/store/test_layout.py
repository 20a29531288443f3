from __future__ import annotations

from pathlib import Path

import pytest

from sparsify.errors import InputOutputError, UsageError
from sparsify.store.layout import require_run_or_empty, walk


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_walk_leaves_out_lock_checkpoints_and_temporaries(tmp_path: Path):
    fill(
        tmp_path, "resolved.yaml", ".lock", ".partial/dense/x", ".tmp-a", "b/.tmp-c/d", "b/e", "b/.lock", "b/.partial/f"
    )
    assert list(walk(tmp_path)) == ["b/.lock", "b/.partial/f", "b/e", "resolved.yaml"]


def test_walk_does_not_leave_the_folder(tmp_path: Path):
    fill(tmp_path, "outside/secret", "run/f")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "outside")
    assert list(walk(tmp_path / "run")) == ["f"]


def test_walk_of_an_absent_folder_names_it(tmp_path: Path):
    with pytest.raises(InputOutputError, match="absent: expected a readable folder"):
        list(walk(tmp_path / "absent"))


@pytest.mark.parametrize("names", [(), (".lock",), (".lock", ".partial/x", ".tmp-1"), ("resolved.yaml", "anything")])
def test_a_run_or_nothing_is_accepted(tmp_path: Path, names: tuple[str, ...]):
    fill(tmp_path, *names)
    require_run_or_empty(tmp_path)


def test_an_absent_folder_is_accepted(tmp_path: Path):
    require_run_or_empty(tmp_path / "absent")


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path):
    fill(tmp_path, "thesis.tex", ".lock")
    with pytest.raises(
        UsageError, match=r"holds thesis\.tex; nothing was written there, choose another with --run-dir"
    ):
        require_run_or_empty(tmp_path)


def test_a_file_is_refused(tmp_path: Path):
    fill(tmp_path, "f")
    with pytest.raises(UsageError, match="expected a run folder, got a file"):
        require_run_or_empty(tmp_path / "f")
