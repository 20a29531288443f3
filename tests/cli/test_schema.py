from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from sparsify.cli.schema import command

COMMITTED = Path(__file__).resolve().parents[2] / "recipes" / "recipe.schema.json"


def test_it_prints_the_schema_and_nothing_else():
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout == COMMITTED.read_text()
    assert json.loads(done.stdout)["required"] == ["name", "model", "data", "train"]
