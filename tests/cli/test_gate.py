import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from sparsify.cli.gate import command
from sparsify.errors import CorruptError, InputOutputError, RecipeError, UsageError
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.spec import DataSpec, GateSpec, Recipe, TrainSpec
from sparsify.recipe.step import Step
from sparsify.store.atomic import write_json
from sparsify.store.run import Run

METRICS = {
    "export.accuracy_drop": 0.01,
    "export.accuracy_drop.ci_low": 0.005,
    "export.accuracy_drop.ci_high": 0.015,
    "size.packed_bytes": 300,
    "size.dense_fp32_bytes": 1000,
}

app = typer.Typer()
app.command()(command)


def invoke(*words):
    """Run the verb; errors of ours come up as they are."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def run(tmp_path):
    recipe = Recipe(
        name="small",
        model="mlp:64-10",
        data=DataSpec(source="digits"),
        train=TrainSpec(steps=Step(10, "it")),
        gate=GateSpec(accuracy_drop=0.02, size=0.5),
    )
    folder = Run.open(tmp_path / "run", resolved_yaml(recipe), recipe.model_dump(mode="json"))
    write_json(folder.root / "metrics.json", METRICS)
    folder.write_manifest({})
    return folder.root


def test_passes_with_0_and_talks_to_people_on_stderr(run):
    result = invoke(run)
    assert result.exit_code == 0
    assert result.stdout == ""
    line = "pass: accuracy_drop: asked at most 0.02, got 0.01; the drop on validation is at most 0.015"
    assert line in result.stderr.splitlines()  # one a line, however narrow: logs are searched


@pytest.mark.parametrize(
    ("override", "code", "outcome"),
    [
        ("gate.accuracy_drop=0.02", 0, "pass"),
        ("gate.accuracy_drop=0.001", 4, "fail"),
        ("gate.accuracy_drop=0.01", 5, "inconclusive"),
        ("gate.size=0.2", 4, "fail"),
        ("gate.speedup=1.5", 5, "inconclusive"),
        ("gate.size=0.3", 0, "pass"),
    ],
)
def test_exit_codes_and_one_json_document(run, override, code, outcome):
    result = invoke(run, "--json", "--set", override)
    assert result.exit_code == code
    document = json.loads(result.stdout)
    assert (document["outcome"], document["exit_code"], document["run"]) == (outcome, code, str(run))
    assert set(document["checks"][0]) == {
        "check",
        "target",
        "asked",
        "achieved",
        "ci_low",
        "ci_high",
        "outcome",
        "reason",
    }


def test_failed_beats_inconclusive(run):
    assert invoke(run, "--set", "gate.speedup=2", "--set", "gate.size=0.1").exit_code == 4


def test_thresholds_can_be_taken_away_until_nothing_is_asked(run):
    assert invoke(run, "--set", "gate.accuracy_drop=null").exit_code == 0
    with pytest.raises(UsageError, match="expected at least one threshold, got none"):
        invoke(run, "--set", "gate.accuracy_drop=null", "--set", "gate.size=null")


def test_only_thresholds_can_be_set(run):
    with pytest.raises(UsageError, match=r"--set prune\.levels=3: expected one of gate\.accuracy_drop"):
        invoke(run, "--set", "prune.levels=3")


@pytest.mark.parametrize("override", ["gate.speed=1", "gate.size=2", "gate.speedup=fast"])
def test_impossible_thresholds_are_faults_of_the_override(run, override):
    with pytest.raises(RecipeError, match=f"--set {override}"):
        invoke(run, "--set", override)


def test_an_unfinished_run_is_not_judged(run):
    (run / "manifest.json").unlink()
    with pytest.raises(InputOutputError, match="expected a finished run, got an unfinished one"):
        invoke(run)


def test_no_run_is_not_judged(tmp_path):
    with pytest.raises(InputOutputError, match="expected a run folder"):
        invoke(tmp_path)


def test_metrics_changed_by_hand_are_not_trusted(run):
    write_json(run / "metrics.json", METRICS | {"size.packed_bytes": 1})
    with pytest.raises(CorruptError, match=r"metrics\.json: changed since the run wrote it"):
        invoke(run)


def test_the_gate_loads_neither_torch_nor_scipy(run):
    code = (
        "import sys\nfrom sparsify.cli.gate import command\nimport typer\n"
        "try:\n    command(__import__('pathlib').Path(sys.argv[1]), None, True)\nexcept typer.Exit:\n    pass\n"
        "sys.exit(any(m.split('.')[0] in ('torch', 'scipy', 'onnx', 'sklearn') for m in sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(run)], check=False, stdout=subprocess.DEVNULL).returncode == 0
    )
