from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.digest import file_sha256
from sparsify.store.run import Run, stages_of
from sparsify.store.stage import write_stage

TEXT = "name: a\ntrain: {lr: 0.1, steps: 1ep}\ncompute: {workers: 1}\n"
RECIPE = {"name": "a", "train": {"lr": 0.1, "steps": "1ep"}, "compute": {"workers": 1}}


def add_stage(run: Run, path: str, kind: str = "k", **files: str) -> None:
    with write_stage(run.root / path, kind=kind, key=path, spec={}, parents={}, seeds={}, versions={}) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def test_open_makes_the_folder_and_again_opens_it(tmp_path: Path):
    run = Run.open(tmp_path / "runs" / "a", TEXT, RECIPE)
    assert run.recipe == RECIPE
    assert Run.open(run.root, TEXT, RECIPE) == run
    assert Run.load(run.root) == run


def test_tuples_in_the_recipe_are_lists(tmp_path: Path):
    assert Run.open(tmp_path / "r", "a: [1]\n", {"a": (1,)}).recipe == {"a": [1]}


def test_another_recipe_is_refused_field_by_field(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", weights="w")
    before = (run.root / "resolved.yaml").read_bytes()
    with pytest.raises(
        UsageError, match=r"train\.lr: the folder has 0\.1, the recipe says 0\.2.*another --run-dir, or give"
    ):
        Run.open(run.root, TEXT.replace("0.1", "0.2"), {})
    assert (run.root / "resolved.yaml").read_bytes() == before


def test_a_folder_in_which_nothing_was_begun_takes_another_recipe(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    Run.open(run.root, TEXT.replace("0.1", "0.2"), {})
    assert Run.load(run.root).recipe["train"]["lr"] == 0.2


def test_so_does_one_that_holds_only_the_network_as_it_was_given(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", kind="source", weights="w")
    Run.check(run.root, {})
    Run.open(run.root, TEXT.replace("0.1", "0.2"), {})
    assert Run.load(run.root).recipe["train"]["lr"] == 0.2
    add_stage(run, "trials/a/pruned", kind="prune", weights="w")
    with pytest.raises(UsageError, match=r"train\.lr: the folder has 0\.2, the recipe says 0\.1"):
        Run.open(run.root, TEXT, RECIPE)


def test_compute_may_differ(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    again = Run.open(run.root, TEXT.replace("workers: 1", "workers: 2"), {**RECIPE, "compute": {"workers": 2}})
    assert again.recipe["compute"] == {"workers": 2}


def test_layout_of_the_text_does_not_matter(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    Run.open(run.root, "train:\n  steps: 1ep\n  lr: 0.1\nname: a\n", RECIPE)


def test_a_folder_of_somebody_elses_is_not_written_to(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="nothing was written there"):
        Run.open(tmp_path, TEXT, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_changed_recipe_is_damage_not_a_difference(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", weights="w")
    path = run.root / "resolved.yaml"
    path.write_text(path.read_text().replace("0.1", "0.2"))
    for opened in (lambda: Run.open(run.root, TEXT, RECIPE), lambda: Run.load(run.root)):
        with pytest.raises(CorruptError, match=r"resolved\.yaml: changed"):
            opened()


def test_stages_outlive_a_changed_recipe(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", weights="w")
    (run.root / "resolved.yaml").write_text("name: b\n")
    assert list(stages_of(run.root)) == ["dense"]


def test_stages_of_what_is_no_run(tmp_path: Path):
    with pytest.raises(InputOutputError, match="expected a run folder"):
        stages_of(tmp_path)


@pytest.mark.parametrize("where", [".", "absent"])
def test_load_of_what_is_no_run(tmp_path: Path, where: str):
    with pytest.raises(InputOutputError, match="expected a run folder"):
        Run.load(tmp_path / where)


def test_stages_are_found_by_path_in_order(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "replicate_0/level_01", f="x")
    add_stage(run, "replicate_0/dense", f="x")
    (run.root / ".partial" / "replicate_0" / "level_02").mkdir(parents=True)
    (run.root / ".tmp-level_02").mkdir()
    (run.root / ".tmp-level_02" / "stage.json").touch()
    assert list(run.stages()) == ["replicate_0/dense", "replicate_0/level_01"]
    assert run.stages()["replicate_0/dense"].key == "replicate_0/dense"


def test_the_manifest_lists_every_file_with_its_digest(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", f="x", g="y")
    (run.root / "metrics.json").write_text("{}")
    assert run.manifest() is None
    written = run.write_manifest({"environment": {"processor": "p"}, "seeds": {"root": 0}})
    manifest = run.manifest()
    assert manifest == written
    files = {path.relative_to(run.root).as_posix(): path for path in run.root.rglob("*") if path.is_file()}
    assert manifest["files"] == {
        name: {"sha256": file_sha256(path), "size": path.stat().st_size}
        for name, path in files.items()
        if name != "manifest.json"
    }
    assert manifest["stages"]["dense"]["digest"] == run.stages()["dense"].digest
    assert (manifest["environment"], manifest["seeds"]) == ({"processor": "p"}, {"root": 0})


def test_damage_done_before_the_manifest_is_not_blessed_by_it(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    add_stage(run, "dense", f="x")
    (run.root / "dense" / "f").write_text("y")
    run.write_manifest({})
    assert [found.path for found in run.verify()] == ["dense/f"]


def test_unfinish_takes_the_manifest_away(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    run.write_manifest({})
    run.unfinish()
    run.unfinish()
    assert run.manifest() is None


def test_the_manifest_is_plain_json(tmp_path: Path):
    run = Run.open(tmp_path / "r", TEXT, RECIPE)
    run.write_manifest({"x": (1, 2)})
    assert json.loads((run.root / "manifest.json").read_text())["x"] == [1, 2]
