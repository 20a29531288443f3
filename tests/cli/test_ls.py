from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.ls import KINDS, Kind, command
from sparsify.recipe.spec import PerturbRestSpec, PruneSpec

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command)

    def with_arguments(*arguments: str):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        return done.stdout

    return with_arguments


def test_every_kind_has_what_lists_it():
    assert tuple(KINDS) == get_args(Kind)


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_each(run, kind):
    names = [row["name"] for row in json.loads(run(kind, "--json"))[kind]]
    lines = run(kind).splitlines()
    assert [line.split()[0] for line in lines] == names
    assert len(names) == len(set(names)) >= 1
    assert all(len(line.split(maxsplit=1)[1]) > 10 for line in lines)


def test_everything_under_its_heading(run):
    lines = run().splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [f"{kind}:" for kind in KINDS]
    document = json.loads(run("--json"))
    assert list(document) == list(KINDS)
    assert len(lines) == sum(1 + len(rows) for rows in document.values())


def test_recipes_are_those_shipped_with_their_descriptions(run):
    rows = {row["name"]: row["summary"] for row in json.loads(run("recipes", "--json"))["recipes"]}
    assert set(rows) == {path.stem for path in RECIPES.glob("*.yaml")}
    assert rows["digits"] in (RECIPES / "digits.yaml").read_text()


def test_what_a_recipe_takes_is_listed(run):
    document = json.loads(run("--json"))
    assert {row["name"] for row in document["criteria"]} >= set(
        get_args(PruneSpec.model_fields["criterion"].annotation)
    )
    assert [row["name"] for row in document["probes"]] == list(
        get_args(PerturbRestSpec.model_fields["name"].annotation)
    )


def test_criteria_are_those_that_exist(run):
    from sparsify.criteria.registry import CRITERIA, SOLVERS

    assert [row["name"] for row in json.loads(run("criteria", "--json"))["criteria"]] == [*CRITERIA, *SOLVERS]


def test_an_unknown_kind_is_refused():
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["modles"])
    assert done.exit_code == 2
    assert "modles" in done.stderr
