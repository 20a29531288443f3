"""A whole run of a tiny recipe: what it leaves, what a second one does, and what stops it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from sparsify.store.layout import LOCK
from sparsify.store.run import Run


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def stamps(root: Path) -> dict[str, int]:
    """Modification time of every file but the lock."""
    return {
        str(file.relative_to(root)): file.stat().st_mtime_ns
        for file in root.rglob("*")
        if file.is_file() and file.name != LOCK
    }


def test_every_stage_is_a_folder_of_its_own(finished: Path):
    paths = set(Run.load(finished).stages())
    for replicate in (0, 1):
        assert {f"replicate_{replicate}/dense", f"replicate_{replicate}/level_02"} <= paths
        assert f"replicate_{replicate}/controls/level_01/reinit" in paths
        assert f"probes/perturb-rest/arms/replicate_{replicate}/level_02/rest-redrawn_0" in paths
    assert {"probes/perturb-rest/result", "test", "export/onnxruntime-cpu", "latency/onnxruntime-cpu"} <= paths
    assert {"resolved.yaml", "manifest.json", "metrics.json", "report.html"} <= {
        file.name for file in finished.iterdir()
    }


def test_metrics_are_flat_and_say_what_few_replicates_can_not(finished: Path):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert not any(isinstance(value, dict) for value in metrics.values())
    assert metrics["level_01.matching"] == "undecided"
    assert "5" in metrics["level_01.decision"]
    assert metrics["level_02.sparsity"] == pytest.approx(0.75, abs=0.001)
    assert metrics["level_02.test_accuracy.values"] and metrics["answer"]
    assert metrics["environment.training_precision"] == "fp32"


def test_a_finished_run_is_not_touched_again(copy: Path, tiny: Path, sparsify):
    before = stamps(copy)
    done = sparsify("run", tiny, "--run-dir", copy, "--json")
    assert done.returncode == 0, done.stderr
    assert stamps(copy) == before
    assert json.loads(done.stdout)["metrics"] == json.loads((copy / "metrics.json").read_text())
    assert done.stderr == ""


def test_verify_agrees_with_run(finished: Path, sparsify):
    assert sparsify("verify", finished).returncode == 0


def test_another_override_is_refused_and_named(copy: Path, tiny: Path, sparsify):
    done = sparsify("run", tiny, "--run-dir", copy, "--set", "train.batch_size=30")
    assert done.returncode == 2
    assert "train.batch_size" in done.stderr and "60" in done.stderr and "30" in done.stderr


def test_compute_may_differ(copy: Path, tiny: Path, sparsify):
    assert sparsify("run", tiny, "--run-dir", copy, "--set", "compute.workers=1").returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "replicate_0/dense/weights.safetensors",
        "replicate_1/level_01/mask.safetensors",
        "replicate_0/level_02/history.json",
        "replicate_0/level_02/stage.json",
        "probes/perturb-rest/result/result.json",
        "export/onnxruntime-cpu/model.onnx",
        "latency/onnxruntime-cpu/latency.json",
        "test/test.json",
        "resolved.yaml",
        "metrics.json",
        "report.html",
        "manifest.json",
    ],
)
def test_a_flipped_byte_is_found_by_run_and_verify(copy: Path, tiny: Path, name: str, sparsify):
    file = copy / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for done in (sparsify("run", tiny, "--run-dir", copy), sparsify("verify", copy)):
        assert done.returncode == 7, done.stderr
        told = done.stdout + done.stderr
        assert name in told
        assert "remove" in told or "--reuse" in told, "how to go on"


def test_a_removed_stage_is_made_again_and_nothing_else(copy: Path, tiny: Path, sparsify):
    weights = copy / "replicate_1/level_02/weights.safetensors"
    same, before = weights.read_bytes(), stamps(copy)
    shutil.rmtree(weights.parent)
    done = sparsify("run", tiny, "--run-dir", copy)
    assert done.returncode == 0, done.stderr
    assert weights.read_bytes() == same
    totals = {int(total) for total in re.findall(r"^\[\d+/(\d+)\]", done.stderr, re.MULTILINE)}
    assert totals == {len(Run.load(copy).stages())}, "the whole plan, from the first line on"
    changed = {name for name, stamp in stamps(copy).items() if before.get(name) != stamp}
    assert {Path(name).parts[0] for name in changed} == {
        "replicate_1",
        "metrics.json",
        "report.html",
        "manifest.json",
    }


def test_reuse_links_what_is_the_same(finished: Path, tiny: Path, tmp_path: Path, sparsify):
    root = tmp_path / "wider"
    done = sparsify("run", tiny, "--run-dir", root, "--reuse", finished, "--set", "gate.size=0.5")
    assert done.returncode == 0, done.stderr
    for name in ("replicate_0/level_02/weights.safetensors", "probes/perturb-rest/result/result.json"):
        assert (root / name).stat().st_ino == (finished / name).stat().st_ino


def test_a_run_whose_recipe_is_damaged_lends_its_stages(copy: Path, tiny: Path, tmp_path: Path, sparsify):
    (copy / "resolved.yaml").write_text("name: b\n")
    refused = sparsify("run", tiny, "--run-dir", copy)
    assert refused.returncode == 7
    assert f"into another --run-dir with --reuse {copy}" in refused.stderr
    done = sparsify("run", tiny, "--run-dir", tmp_path / "new", "--reuse", copy)
    assert done.returncode == 0, done.stderr
    weights = "replicate_0/level_02/weights.safetensors"
    assert (tmp_path / "new" / weights).stat().st_ino == (copy / weights).stat().st_ino


def test_the_second_run_is_told_who_holds_the_folder(copy: Path, tiny: Path, sparsify):
    with (copy / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": "2026-01-01T00:00:00+00:00"}))
        file.flush()
        done = sparsify("run", tiny, "--run-dir", copy)
    assert done.returncode == 8
    assert str(os.getpid()) in done.stderr and socket.gethostname() in done.stderr


@pytest.mark.slow
def test_only_stops_after_its_phase(tiny: Path, tmp_path: Path, sparsify):
    root = tmp_path / "run"
    done = sparsify("run", tiny, "--run-dir", root, "--only", "tickets", "--set", "replicates=1", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stopped_after": "tickets"})
    assert (root / "replicate_0/level_02").is_dir() and not (root / "probes").exists()
    assert sparsify("run", tiny, "--run-dir", root, "--only", "everything").returncode == 2


def test_dry_run_writes_nothing(tiny: Path, finished: Path, tmp_path: Path, sparsify):
    fresh = sparsify("run", tiny, "--run-dir", tmp_path / "new", "--dry-run", "--json")
    stages = json.loads(fresh.stdout)["stages"]
    assert fresh.returncode == 0 and not (tmp_path / "new").exists()
    assert {stage["state"] for stage in stages} == {"to run"}
    cached = sparsify("run", tiny, "--run-dir", finished, "--dry-run", "--json")
    assert {stage["state"] for stage in json.loads(cached.stdout)["stages"]} == {"complete"}
    reused = sparsify("run", tiny, "--run-dir", tmp_path / "new", "--dry-run", "--json", "--reuse", finished)
    states = {(stage["kind"], stage["state"]) for stage in json.loads(reused.stdout)["stages"]}
    assert {kind for kind, state in states if state == "to run"} == {"export", "latency"}  # of which ticket is open


def test_dry_run_sees_what_is_exported_and_timed_anew(tiny: Path, finished: Path, tmp_path: Path, sparsify):
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(root / "latency")
    document = json.loads(sparsify("run", tiny, "--run-dir", root, "--dry-run", "--json").stdout)
    assert document["chosen"] and document["estimate_s"] > 0
    waiting = [stage["path"] for stage in document["stages"] if stage["state"] == "to run"]
    assert waiting == [stage["path"] for stage in document["stages"] if stage["kind"] == "latency"] != []


def test_divergence_is_exit_10_and_leaves_nothing_half_written(tiny: Path, tmp_path: Path, sparsify):
    root = tmp_path / "run"
    optimizer = "train.optimizer={name: sgd, lr: 1e30}"
    done = sparsify("run", tiny, "--run-dir", root, "--set", optimizer, "--set", "replicates=1", "--set", "probes=[]")
    assert done.returncode == 10, done.stderr
    assert "at step 1:" in done.stderr and "in the output of" in done.stderr
    assert Run.load(root).stages() == {}
    assert not list(root.rglob(".tmp-*"))


@pytest.mark.slow
def test_a_smoke_run_passes_through_every_phase(tmp_path: Path, sparsify):
    done = sparsify("run", "digits", "--smoke", "--run-dir", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["run.name"] == "digits-smoke"
