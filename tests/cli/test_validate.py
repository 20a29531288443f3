from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.validate import command
from sparsify.errors import InputOutputError, UsageError

BAD = "name: x\nmodel: lenet-300-10\ndata: digits\ntrain: {steps: 600}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)

    def with_arguments(*arguments: str):
        return CliRunner().invoke(app, arguments)

    return with_arguments


def test_a_valid_recipe(run):
    done = run("digits")
    assert done.exit_code == 0
    assert done.stdout.endswith("digits.yaml: valid\n")
    assert done.stderr == ""


def test_every_fault_is_one_line_on_stderr_and_exit_is_3(run):
    Path("a.yaml").write_text(BAD)
    done = run("a.yaml", "--set", "prune.lvels=3")
    assert done.exit_code == 3
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["a.yaml:2:8", "model"],
        ["a.yaml:4:16", "train.steps"],
        ["--set prune.lvels=3", "prune.lvels"],
    ]
    assert "did you mean lenet-300-100" in lines[0]


def test_json_holds_every_part_of_every_fault(run):
    Path("a.yaml").write_text(BAD)
    done = run("a.yaml", "--json", "--set", "prune.lvels=3")
    assert done.exit_code == 3
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["valid"], document["file"]) == (False, "a.yaml")
    assert [(fault["file"], fault["line"], fault["column"], fault["path"]) for fault in document["faults"]] == [
        ("a.yaml", 2, 8, "model"),
        ("a.yaml", 4, 16, "train.steps"),
        ("--set prune.lvels=3", None, None, "prune.lvels"),
    ]
    assert document["faults"][1] == {
        "file": "a.yaml",
        "line": 4,
        "column": 16,
        "path": "train.steps",
        "expected": "epochs or iterations such as 10ep or 2000it",
        "got": "the number 600",
        "mend": "write 600it or 600ep",
    }


def test_json_of_a_valid_recipe(run):
    done = run("digits", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["valid"] is True
    assert document["faults"] == []


def test_overrides_can_mend(run):
    Path("a.yaml").write_text(BAD)
    done = run("a.yaml", "--set", "train.steps=2ep", "--set", "model=mlp:1-1", "--set", "model=mlp:64-10")
    assert done.exit_code == 0


def test_text_of_a_recipe_cannot_write_to_the_terminal(run):
    Path("a.yaml").write_text('"\\e[31mkey": 1\nname: "\\e[31mvalue\\n"\n')
    done = run("a.yaml")
    assert done.exit_code == 3
    assert "\x1b" not in done.stderr
    assert all(line.startswith("a.yaml:") for line in done.stderr.splitlines())


def test_a_missing_file_is_no_fault_of_a_recipe(run):
    done = run("digts")
    assert isinstance(done.exception, InputOutputError)
    assert str(done.exception).endswith("did you mean digits?")


def test_a_malformed_override_is_a_usage_error(run):
    assert isinstance(run("digits", "--set", "prune.levels").exception, UsageError)
