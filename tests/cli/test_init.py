from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.init import SCHEMA_NAME, command
from sparsify.errors import UsageError
from sparsify.pipeline.names import load_checked
from sparsify.recipe.schema import schema_text


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)

    def with_arguments(*arguments: str):
        return CliRunner().invoke(app, arguments)

    return with_arguments


def test_it_writes_a_recipe_that_validates_and_the_schema_its_first_line_names(run):
    done = run()
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "wrote recipe.yaml; next: sparsify validate recipe.yaml" in done.stderr
    assert load_checked("recipe.yaml").name == "recipe"
    first = Path("recipe.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_NAME}"
    assert Path(SCHEMA_NAME).read_text() == schema_text()
    assert sorted(path.name for path in Path().iterdir()) == ["recipe.schema.json", "recipe.yaml"]


def test_the_recipe_is_called_as_its_file_and_folders_are_made(run):
    assert run("experiments/first.yaml").exit_code == 0
    assert load_checked("experiments/first.yaml").name == "first"
    assert Path("experiments", SCHEMA_NAME).is_file()


def test_a_folder_gets_recipe_yaml(run):
    Path("here").mkdir()
    assert run("here").exit_code == 0
    assert Path("here/recipe.yaml").is_file()


def test_a_file_that_is_there_is_not_overwritten(run):
    Path("recipe.yaml").write_text("mine")
    done = run()
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == (
        "recipe.yaml: expected no such file yet, got one; name another, or replace it with --force"
    )
    assert Path("recipe.yaml").read_text() == "mine"
    assert not Path(SCHEMA_NAME).exists()


def test_force_replaces_the_recipe_and_leaves_a_schema_alone(run):
    Path("recipe.yaml").write_text("mine")
    Path(SCHEMA_NAME).write_text("{}")
    assert run("--force").exit_code == 0
    assert load_checked("recipe.yaml").name == "recipe"
    assert Path(SCHEMA_NAME).read_text() == "{}"
