from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.verify import command
from sparsify.errors import InputOutputError
from sparsify.store.run import Run
from sparsify.store.stage import write_stage

app = typer.Typer()
app.command()(command)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.open(tmp_path / "run", "name: a\n", {"name": "a"})
    with write_stage(
        run.root / "replicate_0/dense", kind="dense", key="k", spec={}, parents={}, seeds={}, versions={}
    ) as folder:
        (folder / "weights").write_text("w")
    run.write_manifest({})
    return run


def test_an_intact_run(run: Run):
    result = invoke(run.root)
    assert result.exit_code == 0
    assert "4 files checked, stages: 1, intact" in result.stdout
    assert "unfinished" not in result.stdout


def test_a_damaged_file_is_named_and_the_exit_is_7(run: Run):
    (run.root / "replicate_0/dense/weights").write_text("v")
    result = invoke(run.root)
    assert result.exit_code == 7
    assert f"DAMAGED: {run.root}/replicate_0/dense/weights: changed: expected sha256" in result.stdout
    assert "1 damaged: remove the stage's folder" in result.stdout


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("metrics.json", "1 damaged: remove manifest.json and run the same command again"),
        ("manifest.json", "1 damaged: remove manifest.json and run the same command again"),
        ("resolved.yaml", "1 damaged: its stages can be kept: run the recipe into another --run-dir with --reuse "),
    ],
)
def test_what_to_do_depends_on_what_is_damaged(run: Run, name: str, mend: str):
    (run.root / "metrics.json").write_text("{}")
    run.write_manifest({})
    (run.root / name).write_text((run.root / name).read_text() + " ")
    result = invoke(run.root)
    assert result.exit_code == 7
    assert mend in result.stdout
    assert "stage's folder" not in result.stdout


def test_an_unlisted_file_is_a_warning_and_the_exit_is_0(run: Run):
    (run.root / "notes").touch()
    result = invoke(run.root)
    assert result.exit_code == 0
    assert f"warning: {run.root}/notes: unlisted" in result.stdout


def test_an_unfinished_run_says_so(run: Run):
    run.unfinish()
    result = invoke(run.root)
    assert result.exit_code == 0
    assert "intact; the run is unfinished, the same command resumes it" in result.stdout


def test_one_stage(run: Run):
    result = invoke(run.root / "replicate_0/dense")
    assert result.exit_code == 0
    assert "2 files checked, stages: 1, intact" in result.stdout


def test_a_damaged_recipe_is_damage_not_an_error(run: Run):
    (run.root / "resolved.yaml").write_text("name: b\n")
    result = invoke(run.root)
    assert result.exit_code == 7
    assert "resolved.yaml: changed" in result.stdout


def test_json_is_one_document_with_every_damage(run: Run):
    (run.root / "replicate_0/dense/weights").unlink()
    (run.root / "notes").touch()
    result = invoke(run.root, "--json")
    assert result.exit_code == 7
    document = json.loads(result.stdout)
    assert {name: document[name] for name in ("run", "intact", "finished", "stages", "files")} == {
        "run": str(run.root),
        "intact": False,
        "finished": True,
        "stages": 1,
        "files": 3,
    }
    assert [(one["path"], one["problem"], one["harmless"]) for one in document["damage"]] == [
        ("notes", "unlisted", True),
        ("replicate_0/dense/weights", "missing", False),
    ]


@pytest.mark.parametrize("where", [".", "absent"])
def test_what_is_no_run_is_refused(tmp_path: Path, where: str):
    result = invoke(tmp_path / where)
    assert isinstance(result.exception, InputOutputError)
    assert "expected a run folder (with resolved.yaml) or a stage of one, got neither" in str(result.exception)
