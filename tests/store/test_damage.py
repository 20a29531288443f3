from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.store.atomic import write_json
from sparsify.store.damage import check_folder
from sparsify.store.run import Run
from sparsify.store.stage import read_stage, write_stage
from sparsify.store.weights import save_tensors


@dataclass(frozen=True)
class Example:
    run: Run

    @property
    def root(self) -> Path:
        return self.run.root

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())


def build(root: Path, *, finished: bool) -> Example:
    """A small run of two stages, with files of every kind that a run holds."""
    run = Run.open(root, "name: a\nseed: 0\n", {"name": "a", "seed": 0})
    parents: dict[str, dict[str, str]] = {}
    for level, path in enumerate(("replicate_0/dense", "replicate_0/level_01")):
        with write_stage(
            root / path,
            kind="k",
            key=path,
            spec={"level": level},
            parents=parents,
            seeds={"i": 1},
            versions={"torch": "2"},
        ) as folder:
            save_tensors(folder / "weights.safetensors", {"w": torch.full((3,), float(level))})
            write_json(folder / "history.json", [{"step": 1, "loss": 0.5}])
        record = read_stage(root / path)
        assert record is not None
        parents = {"previous": {"path": path, "digest": record.digest}}
    if finished:
        write_json(root / "metrics.json", {"accuracy": 0.9})
        (root / "report.html").write_text("<p>fine</p>\n")
        run.write_manifest({"environment": {"processor": "p"}})
    return Example(run)


@pytest.fixture(params=[True, False], ids=["finished", "unfinished"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return build(tmp_path / "run", finished=request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["finished", "unfinished"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return build(tmp_path_factory.mktemp("pristine") / "run", finished=request.param)


def test_an_intact_run_has_no_damage(example: Example):
    checked = check_folder(example.root)
    assert checked.damage == ()
    assert checked.intact
    assert checked.stages == 2
    assert checked.files == len(example.files())
    assert checked.finished == (example.root / "manifest.json").exists()


@given(st.data())
def test_a_flipped_byte_of_any_file_is_told_and_only_that_file(pristine: Example, data: st.DataObject):
    name = data.draw(st.sampled_from(pristine.files()))
    path = pristine.root / name
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    path.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
    try:
        checked = check_folder(pristine.root)
    finally:
        path.write_bytes(good)
    assert [(found.path, found.problem) for found in checked.damage] == [(name, "changed")]
    assert not checked.intact


@given(st.data())
def test_a_shortened_or_lengthened_file_is_told(pristine: Example, data: st.DataObject):
    name = data.draw(st.sampled_from(pristine.files()))
    path = pristine.root / name
    good = path.read_bytes()
    changed = data.draw(st.sampled_from([good[:-1], good + b"\n", b""]))
    path.write_bytes(changed)
    try:
        checked = check_folder(pristine.root)
    finally:
        path.write_bytes(good)
    assert [(found.path, found.problem) for found in checked.damage] == [(name, "changed")]


def test_every_missing_file_of_a_finished_run_is_told(tmp_path: Path):
    example = build(tmp_path / "run", finished=True)
    for name in example.files():
        if name == "manifest.json":
            continue
        shutil.copytree(example.root, tmp_path / "copy")
        (tmp_path / "copy" / name).unlink()
        found = check_folder(tmp_path / "copy").damage
        assert [(one.path, one.problem) for one in found] == [(name, "missing")]
        shutil.rmtree(tmp_path / "copy")


def test_a_missing_file_of_an_unfinished_runs_stage_is_told(tmp_path: Path):
    example = build(tmp_path / "run", finished=False)
    (example.root / "replicate_0/dense/history.json").unlink()
    found = check_folder(example.root).damage
    assert [(one.path, one.problem) for one in found] == [("replicate_0/dense/history.json", "missing")]


def test_several_damages_are_all_told(example: Example):
    (example.root / "replicate_0/dense/weights.safetensors").write_bytes(b"")
    (example.root / "replicate_0/level_01/history.json").unlink()
    found = check_folder(example.root).damage
    assert [(one.path, one.problem) for one in found] == [
        ("replicate_0/dense/weights.safetensors", "changed"),
        ("replicate_0/level_01/history.json", "missing"),
    ]


def test_an_unlisted_file_is_a_warning(example: Example):
    (example.root / "replicate_0/dense/notes.txt").touch()
    checked = check_folder(example.root)
    assert [(one.path, one.problem, one.harmless) for one in checked.damage] == [
        ("replicate_0/dense/notes.txt", "unlisted", True)
    ]
    assert checked.intact


def test_lock_checkpoints_and_temporaries_are_ignored(example: Example):
    (example.root / ".lock").touch()
    (example.root / ".partial/replicate_0").mkdir(parents=True)
    (example.root / ".partial/replicate_0/checkpoint.safetensors").touch()
    (example.root / "replicate_0/.tmp-level_02-1").mkdir()
    (example.root / "replicate_0/.tmp-level_02-1/f").touch()
    assert check_folder(example.root).damage == ()


def test_a_damaged_manifest_does_not_hide_a_damaged_stage(tmp_path: Path):
    example = build(tmp_path / "run", finished=True)
    (example.root / "manifest.json").write_text("{}")
    (example.root / "replicate_0/dense/history.json").write_text("[]")
    found = check_folder(example.root).damage
    assert [one.path for one in found] == ["manifest.json", "replicate_0/dense/history.json"]


def test_a_stage_made_from_another_parent_is_stale(example: Example):
    with write_stage(
        example.root / "replicate_0/dense", kind="k", key="", spec={}, parents={}, seeds={}, versions={}, replace=True
    ) as folder:
        (folder / "f").write_text("other")
    (example.root / "manifest.json").unlink(missing_ok=True)
    checked = check_folder(example.root)
    assert [(one.path, one.problem) for one in checked.damage] == [("replicate_0/level_01/stage.json", "stale")]
    assert "previous replicate_0/dense" in checked.damage[0].detail
    assert not checked.intact


def test_one_stage_can_be_checked_by_itself(example: Example):
    folder = example.root / "replicate_0/dense"
    assert check_folder(folder).damage == ()
    (folder / "history.json").write_text("[]")
    assert [one.path for one in check_folder(folder).damage] == ["history.json"]


def test_a_finished_run_is_checked_without_torch(tmp_path: Path):
    import subprocess
    import sys

    example = build(tmp_path / "run", finished=True)
    code = (
        "import sys; from pathlib import Path; from sparsify.store.run import Run; import sparsify.store.lock; "
        "run = Run.load(Path(sys.argv[1])); run.stages(); assert not run.verify(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(example.root)], check=True)
