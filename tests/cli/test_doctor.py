"""The verb: one JSON document, a table that keeps its brackets, exit 0 unless nothing can work."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.doctor import command
from sparsify.pipeline import doctor
from sparsify.pipeline.doctor import Check, Diagnosis, TargetCheck

app = typer.Typer()
app.command()(command)

WELL = Diagnosis(
    (
        Check("base", "torch", "ok", "2.13", needed=True),
        Check("runtime", "onnxruntime", "missing", "not installed", "pip install 'sparsify-tickets[cpu]'"),
    ),
    (TargetCheck("onnxruntime-cpu", True, True, ""), TargetCheck("tensorrt", False, False, "no GPU [bold]here[/bold]")),
)
ILL = Diagnosis((Check("base", "torch", "not usable", "ImportError", "reinstall it", needed=True),), ())


@pytest.mark.parametrize(("diagnosis", "code"), [(WELL, 0), (ILL, 6)], ids=["well", "ill"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_exit_code(diagnosis: Diagnosis, code: int, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: diagnosis)
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == code
    if flags:
        assert json.loads(result.stdout)["works"] is (code == 0)
    else:
        assert ("sparsify cannot work here" in result.stdout) is (code == 6)


def test_the_table_shows_every_line_its_mend_and_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: WELL)
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(app).stdout
    for words in (
        "torch",
        "not installed",
        "→ pip install 'sparsify-tickets[cpu]'",
        "onnxruntime-cpu",
        "[bold]here[/bold]",
    ):
        assert words in shown


def test_the_real_one_is_one_json_document() -> None:
    result = CliRunner().invoke(app, ["--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["targets"]["onnxruntime-cpu"]["usable"] is True
    assert {"Python", "torch", "GPU", "tensorrt", "tensorrt-rtx", "disk"} <= {
        check["name"].split(" 0")[0] for check in document["checks"]
    }
