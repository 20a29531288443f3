"""One place where errors become exit codes, and with `--json` always one document on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def sparsify(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sparsify", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("ls", "nope", "--json"), 2, "Invalid value for 'kind': 'nope' is not one of"),
        (("run", "--json"), 2, "Missing argument"),
        (("verb", "--json"), 2, "No such command"),
        (("run", "no-such-recipe", "--json"), 9, "no-such-recipe"),
        (("verify", "no-such-run", "--json"), 9, "no-such-run"),
        (("bench", "no-such.onnx", "neither.onnx", "--json"), 9, "no-such.onnx"),
        (("export", "no-such.onnx", "--target", "mars", "--json"), 2, "mars"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_error_is_one_json_document(arguments: tuple[str, ...], exit_code: int, told: str):
    done = sparsify(*arguments)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (exit_code, exit_code)
    assert told in document["error"]


def test_faults_of_a_recipe_are_listed_one_by_one(tmp_path: Path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("name: t\nmodel: nope\ndata: digits\ntrain: {steps: 10}\n")
    done = sparsify("run", recipe, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_code"] == 3
    assert len(document["faults"]) == 2 and all(f"{recipe}:" in fault for fault in document["faults"])


def test_a_target_that_is_missing_is_refused_before_anything_is_trained(tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = sparsify("run", "digits", "--set", "export.targets=[tensorrt]", "--run-dir", tmp_path / "run")
    assert done.returncode == 6, done.stderr
    assert "tensorrt" in done.stderr
    assert not list(tmp_path.rglob("stage.json"))


def test_help_and_version():
    assert "bench" in sparsify("--help").stdout
    assert sparsify("--version").stdout.startswith("sparsify ")


def test_a_reader_that_is_gone_does_not_change_the_exit_code(tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sparsify", "validate", str(tmp_path / "none.yaml"), "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 9 and "Traceback" not in done.stderr and "ignored" not in done.stderr
