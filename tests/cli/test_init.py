from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.init import SCHEMAS, command
from sparsify.errors import UsageError
from sparsify.pipeline.names import load_checked, load_checked_prune
from sparsify.recipe.schema import schema_text

SCHEMA_NAME = SCHEMAS["tickets"]


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


def test_a_recipe_of_prune_has_its_own_schema_and_next_step(run):
    done = run("small.yaml", "--kind", "prune")
    assert "next: sparsify validate small.yaml && sparsify prune small.yaml" in done.stderr
    text = Path("small.yaml").read_text()
    recipe = load_checked_prune(text, "small.yaml", [])
    assert (recipe.name, recipe.target.sparsity, recipe.gate.target) == ("small", 0.8, "met")
    assert text.splitlines()[0] == "# yaml-language-server: $schema=prune.schema.json"
    assert Path("prune.schema.json").read_text() == schema_text("prune")


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
