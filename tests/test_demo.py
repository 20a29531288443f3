"""The demo: the digits recipe, whole, by the wheel in an empty environment; and what its tickets then become."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import onnx
import pytest

from cases_installed import run_alone

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def sparsify(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sparsify", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the wheel, the `cpu` extra and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    run_alone(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    found = folder / "venv" / "bin"
    pip = (found / "python", "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt")
    run_alone(*pip, f"sparsify-tickets[cpu] @ {wheel.as_uri()}", cwd=folder)
    return found


@pytest.fixture(scope="module")
def demo(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole recipe, as a user has it: no checkout, no extra but `cpu`."""
    folder = tmp_path_factory.mktemp("runs")
    done = run_alone(installed / "sparsify", "run", "digits", "--run-dir", "digits", cwd=folder)
    assert done.stderr.rstrip().endswith("report.html")
    return folder / "digits"


@pytest.fixture(scope="module")
def metrics(demo: Path) -> dict[str, object]:
    return json.loads((demo / "metrics.json").read_text())


def test_the_installed_wheel_lists_its_recipes(installed: Path, tmp_path: Path):
    listed = json.loads(run_alone(installed / "sparsify", "ls", "recipes", "--json", cwd=tmp_path).stdout)
    shipped = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert shipped <= {entry["name"] for entry in listed["recipes"]}


def test_the_installed_wheel_ends_with_an_answer_and_verifies_it(installed: Path, demo: Path, metrics):
    assert metrics["run.name"] == "digits" and metrics["answer"]
    assert {"manifest.json", "metrics.json", "report.html"} <= {path.name for path in demo.iterdir()}
    run_alone(installed / "sparsify", "verify", demo, cwd=demo.parent)


def test_sparse_tickets_match_dense_and_beat_redrawn_ones(metrics):
    assert metrics["level_03.matching"] == "matching"
    for level in ("level_05", "level_07"):
        ticket, redrawn = (metrics[f"{level}.{which}validation_accuracy.mean"] for which in ("", "control.reinit."))
        assert ticket > redrawn + 0.01


def test_every_level_is_tested_once_and_every_control_stands_beside(metrics):
    for level in range(9):
        assert len(metrics[f"level_{level:02d}.test_accuracy.values"]) == 5
    for control in ("reinit", "random-mask", "shuffled-mask", "one-shot"):
        assert f"level_05.control.{control}.validation_accuracy.mean" in metrics


def test_the_answer_says_that_zeros_save_no_time_on_a_dense_runtime(metrics):
    assert metrics["latency.onnxruntime-cpu.verdict"] != "faster"
    assert "multiplies zeros like any other number" in metrics["answer"]
    assert metrics["size.packed_fraction"] < 0.5


def test_the_probe_tells_the_ticket_from_a_random_set(metrics):
    key = "probe.perturb-rest.level_05"
    assert metrics[f"{key}.kept_minus_random.ci_low"] > 0
    assert metrics[f"{key}.verdict"] == "undecided" and "protocol" in metrics[f"{key}.caveat"]
    assert metrics[f"{key}.arm.ticket-alone.iou.mean"] == 1


def test_gate_verify_and_inspect(demo: Path):
    gate = sparsify("gate", demo, "--json")
    assert gate.returncode == 0, gate.stdout
    assert {check["check"] for check in json.loads(gate.stdout)["checks"]} == {"accuracy_drop", "size"}
    assert sparsify("gate", demo, "--set", "gate.size=0.01").returncode == 4
    assert sparsify("verify", demo).returncode == 0
    assert "shuffled-mask" in sparsify("inspect", demo).stdout
    assert "hidden1.weight" in sparsify("inspect", demo / "replicate_0/level_05").stdout


def test_the_exported_graphs_are_checked_onnx(demo: Path):
    for name in ("model.onnx", "dense.onnx"):
        onnx.checker.check_model(onnx.load(demo / "export" / "onnxruntime-cpu" / name), full_check=True)


def test_every_ticket_builds_through_nvidias_parser(demo: Path, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'sparsify-tickets[tensorrt-rtx]'")
    done = sparsify("export", demo, "--target", "tensorrt-rtx", "--level", "all", "--out", tmp_path / "rtx", "--json")
    assert done.returncode == 0, done.stderr
    exports = json.loads(done.stdout)["exports"]
    assert len(exports) == 8
    for export in exports:
        plans = export["plans"]
        assert {plan["target"] for plan in plans} == {"SM86", "SM89"}
        assert all(plan["layers"] for plan in plans)
        assert "built, not run" in export["status"]


def test_a_target_that_needs_a_gpu_is_refused_without_one(demo: Path, tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for verb in (
        ("export", demo, "--target", "tensorrt", "--out", tmp_path / "trt"),
        (
            "bench",
            demo / "export/onnxruntime-cpu/dense.onnx",
            demo / "export/onnxruntime-cpu/model.onnx",
            "--target",
            "tensorrt",
        ),
    ):
        done = sparsify(*verb)
        assert done.returncode == 6, done.stderr
        assert "NVIDIA" in done.stderr
    assert not (tmp_path / "trt").exists()
