"""`sparsify prune` whole, on a network of the tiny run; what it says is counted again from the files it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from sparsify.models.checkpoint import read_state
from sparsify.stats.paired_rates import score
from sparsify_export.sparse.available import why_not

Sparsify = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.slow
QUICK = ("--set", "latency.pairs=20", "--set", "latency.launches=1")


@pytest.fixture(scope="session")
def trained(finished: Path) -> tuple[str, ...]:
    """The options that name the tiny run's dense network and its data."""
    weights = finished / "replicate_0/dense/weights.safetensors"
    return ("prune", "--model", "mlp:64-20-10", "--weights", str(weights), "--data", "digits", *QUICK)


@pytest.fixture(scope="session")
def half(trained: tuple[str, ...], outside: Sparsify, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the weights removed and 20 steps of recovery; read, not written to."""
    root = tmp_path_factory.mktemp("prune") / "half"
    done = outside(*trained, "--sparsity", 0.5, "--recover", "20it", "--run-dir", root, "--json")
    assert done.returncode == 0, done.stderr
    return root


def sparsify_load(folder: Path) -> dict[str, torch.Tensor]:
    import sparsify

    return sparsify.load(folder).state_dict()


def metrics_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "metrics.json").read_text())


def test_the_sparsity_is_that_of_the_weights_that_load_reads(half: Path):
    weights = sparsify_load(half / "model")
    zeros = sum(int((weights[name] == 0).sum()) for name in ("hidden1.weight", "output.weight"))
    total = sum(weights[name].numel() for name in ("hidden1.weight", "output.weight"))
    metrics = metrics_of(half)
    assert zeros / total == pytest.approx(0.5, abs=1e-3)
    assert metrics["export.sparsity"] == pytest.approx(zeros / total, abs=1e-9)
    assert metrics["target.outcome"] == "met"


def test_the_size_is_that_of_the_one_file_of_weights_that_load_reads(half: Path):
    metrics, files = metrics_of(half), {path.name for path in (half / "model").iterdir()}
    assert {name for name in files if not name.endswith(".json")} == {"weights.packed"}
    packed = (half / "model/weights.packed").stat().st_size
    assert metrics["size.packed_bytes"] == metrics["size.counted_bytes"] == packed
    assert "model/weights.packed, which sparsify.load reads, takes" in metrics["answer"]
    assert metrics["size.onnx_bytes"] == (half / "export/onnxruntime-cpu/model.onnx").stat().st_size
    kept = load_file(half / "trials/sparsity_0.5000/recovered/weights.safetensors")
    loaded = sparsify_load(half / "model")
    assert kept.keys() == loaded.keys()
    assert all(kept[name].tobytes() == loaded[name].numpy().tobytes() for name in kept)


def test_the_drop_is_paired_over_examples(half: Path):
    dense = load_file(half / "dense/scores.safetensors")["validation"].astype(np.float64)
    kept = load_file(half / "trials/sparsity_0.5000/recovered/scores.safetensors")["validation"].astype(np.float64)
    metrics = metrics_of(half)
    assert metrics["export.accuracy_drop"] == pytest.approx((dense - kept).mean(), abs=1e-12)
    better, worse = int((kept > dense).sum()), int((dense > kept).sum())
    for name, z in (("ci_low", 1.959964), ("ci_high", -1.959964)):
        bound = metrics[f"export.accuracy_drop.{name}"]
        assert score(worse, better, dense.size, bound) == pytest.approx(z, abs=1e-3)


def test_what_recovery_trained_in_is_said(half: Path):
    [history] = half.glob("trials/*/recovered/history.json")
    assert metrics_of(half)["environment.training_precision"] == json.loads(history.read_text())["precision"] == "fp32"


def test_load_gives_the_same_outputs_in_a_new_process(half: Path, tmp_path: Path):
    import sparsify

    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "x.pt")
    with torch.inference_mode():
        here = sparsify.load(half / "model")(images)
    script = (
        "import sys, torch, sparsify; x = torch.load(sys.argv[2], weights_only=True); "
        "torch.save(sparsify.load(sys.argv[1])(x).detach(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", script, str(half / "model"), str(tmp_path / "x.pt")], check=True)
    assert torch.equal(torch.load(tmp_path / "x.pt", weights_only=True), here)


def test_again_runs_nothing_and_says_the_same(half: Path, trained: tuple[str, ...], sparsify: Sparsify):
    before = (half / "metrics.json").read_bytes(), (half / "model/weights.packed").stat().st_mtime_ns
    done = sparsify(*trained, "--sparsity", 0.5, "--recover", "20it", "--run-dir", half)
    assert done.returncode == 0, done.stderr
    assert "stages were complete already" in done.stderr and "] " not in done.stderr
    assert ((half / "metrics.json").read_bytes(), (half / "model/weights.packed").stat().st_mtime_ns) == before


def test_verify_and_gate_take_the_folder(half: Path, sparsify: Sparsify):
    assert sparsify("verify", half).returncode == 0
    assert sparsify("gate", half, "--set", "gate.size=0.9").returncode == 0
    assert sparsify("gate", half, "--set", "gate.size=0.01").returncode == 4


@pytest.mark.parametrize(
    ("more", "most"),
    [((), 0.95), (("--round-to", 8), 0.6)],
    ids=["one unit left", "eight units left"],
)
def test_channels_to_a_size_are_searched_from_the_most_there_is(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path, more: tuple[str, ...], most: float
):
    options = ("--pattern", "channel", "--size", "4.2kB", "--recover", "none", "--set", "target.trials=3", *more)
    done = sparsify(*trained, *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "r")
    loaded = (tmp_path / "r/export/onnxruntime-cpu/model.onnx").stat().st_size
    assert metrics["target.achieved"] == metrics["size.counted_bytes"] == loaded <= 4200
    tried = [key.removesuffix(".outcome") for key in metrics if key.startswith("trial_") and key.endswith(".outcome")]
    assert metrics["trial_01.sparsity"] == pytest.approx(most)  # of 20 units
    met = [metrics[f"{key}.sparsity"] for key in tried if metrics[f"{key}.outcome"] == "met"]
    assert min(met) <= metrics["export.sparsity"] <= most + 1e-9


def test_work_is_saved_by_channels_rounded_to_a_width_in_a_folder_named_for_it(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = sparsify(*trained, "--macs", 0.7, "--round-to", 4, "--recover", "none")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "runs/mlp-64-20-10-channel-macs-0.7"
    metrics = metrics_of(root)
    assert metrics["run.pattern"] == "channel" and metrics["target.achieved"] <= 0.7
    assert sparsify_load(root / "model")["hidden1.weight"].shape == (12, 64)
    files = {path.name for path in (root / "model").iterdir() if path.suffix != ".json"}
    assert files == {"weights.safetensors"}
    plain = load_file(root / "model/weights.safetensors")
    assert metrics["size.masked_bytes"] == sum(one.nbytes for one in plain.values()) < metrics["size.dense_fp32_bytes"]
    share = f"{metrics['size.masked_bytes'] / metrics['size.dense_fp32_bytes']:.1%}"
    assert f"model/weights.safetensors, which sparsify.load reads, takes {share} of the dense" in metrics["answer"]
    assert (metrics["channels.hidden1.before"], metrics["channels.hidden1.after"]) == (20, 12)
    report = (root / "report.html").read_text().replace("sparsify-tickets", "")
    assert "<h2>Channels</h2>" in report
    assert "pruned p50" in report and "ticket" not in report and "warning" not in done.stderr


def test_a_searched_allocation_removes_what_is_asked_for_and_no_more_where_it_costs(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    options = ("--sparsity", 0.8, "--recover", "none", "--calibration", 128)
    done = sparsify(*trained, *options, "--allocation", "searched", "--run-dir", tmp_path / "searched")
    assert done.returncode == 0, done.stderr
    even = sparsify(*trained, *options, "--allocation", "uniform", "--run-dir", tmp_path / "uniform")
    assert even.returncode == 0, even.stderr
    searched, uniform = metrics_of(tmp_path / "searched"), metrics_of(tmp_path / "uniform")
    assert searched["export.sparsity"] == pytest.approx(0.8, abs=1e-3)
    layers = [searched[f"layer.{name}.sparsity"] for name in ("hidden1.weight", "output.weight")]
    assert layers[0] > 0.8 > layers[1]  # of 200 output weights fewer can be spared than of 1280
    assert searched["run.allocation"] == "searched" and uniform["layer.output.weight.sparsity"] == 0.8


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_sparse_operators_are_of_the_precision_that_is_asked_for(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    options = ("--sparsity", 0.5, "--recover", "none", "--target", "sparse-cpu")
    sparse = ("--precision", "i8", "--min-sparsity", 0.4)
    done = sparsify(*trained, *options, *sparse, "--run-dir", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "r/export/sparse-cpu/sparse.json").read_text())["plan"]
    assert plan["precision"] == "i8"
    replaced = {row["weight"]: row["replaced"] for row in plan["layers"]}
    sparse_enough = {row["weight"]: row["sparsity"] >= 0.4 for row in plan["layers"]}
    assert replaced == sparse_enough
    assert any(replaced.values())


def test_time_is_not_searched_for_in_zeros_without_a_warning_first(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    options = ("--pattern", "unstructured", "--speedup", "50x", "--recover", "none")
    done = sparsify(*trained, *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 4, done.stderr
    seen, warned, scored, *_ = done.stderr.splitlines()
    assert warned.startswith("warning: target speedup: unstructured leaves zeros in place")
    assert "preflight" in seen and "dense" in scored
    metrics = metrics_of(tmp_path / "r")
    assert metrics["trial_01.outcome"] == "missed" and "trial_02.sparsity" not in metrics
    assert "it saves no time, so that no recovery was spent on it" in metrics["target.reason"]


def test_a_sparsity_is_that_of_the_layers_without_one_of_their_own(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    options = ("--sparsity", 0.5, "--layer", "hidden1*=0.1", "--recover", "none", "--run-dir", tmp_path / "r")
    done = sparsify(*trained, *options)
    assert done.returncode == 0, done.stderr
    weights = sparsify_load(tmp_path / "r/model")
    metrics = metrics_of(tmp_path / "r")
    assert metrics["target.achieved"] == float((weights["output.weight"] == 0).float().mean()) == 0.5
    assert float((weights["hidden1.weight"] == 0).float().mean()) == pytest.approx(0.1, abs=1e-3)
    assert metrics["export.sparsity"] < 0.2
    both = f"50.0% of the layers that compete ({metrics['export.sparsity']:.1%} of all prunable weights) achieved"
    page = (tmp_path / "r/report.html").read_text()
    assert (
        both in " ".join(done.stderr.split()) and both in metrics["answer"] and both.removesuffix(" achieved") in page
    )


def test_data_without_labels_is_held_against_the_dense_network(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(tmp_path / "photos.npz", x=images)
    options = list(trained)
    options[options.index("digits")] = f"npz:{tmp_path / 'photos.npz'}"
    done = sparsify(*options, "--sparsity", 0.5, "--recover", "5it", "--run-dir", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "r")["run.task"] == "agreement"
    assert "held against the dense network for want of labels" in " ".join(done.stderr.split())
    seen, told, scored, *_ = done.stderr.splitlines()
    assert told.startswith("recovery: 5it of sgd") and "preflight" in seen and "dense" in scored


def test_a_drop_that_is_too_large_is_exit_4_with_what_would_be_needed(
    trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    options = ("--sparsity", 0.95, "--max-drop", 0.08, "--recover", "none")
    done = sparsify(*trained, *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 4, done.stderr
    metrics = metrics_of(tmp_path / "r")
    assert metrics["export.sparsity"] < 0.95
    assert metrics["target.wanted_sparsity"] == 0.95
    assert "95.0% would cost" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--sparsity", 0.5, "--macs", 0.5),
            "--speedup: expected one of --sparsity, --macs, --size, --latency, --speedup",
        ),
        ((), "got none of them"),
        (("--macs", 0.5, "--pattern", "unstructured"), "--macs: expected the pattern channel"),
        (("--sparsity", 0.5, "--round-to", 8), "--round-to: expected the pattern channel, whose counts it rounds"),
        (("--pattern", "2:4", "--allocation", "searched"), "--allocation: expected the pattern unstructured or block"),
        (
            ("--sparsity", 0.5, "--allocation", "searched", "--calibration", 0),
            "--allocation: expected calibration examples to measure on, got none",
        ),
        (("--pattern", "2:4", "--sparsity", 0.9), "--sparsity: expected sparsity 0.5, which 2:4 implies"),
        (("--sparsity", 0.5, "--criterion", "magnitud"), "--criterion: expected"),
        (("--sparsity", 0.5, "--pattern", "4:2"), "write 2:4 to keep 2 of every 4"),
        (("--sparsity", 1.5), "--sparsity: expected a fraction such as 0.5, got"),
        (("--sparsity", 0.5, "--set", "target.trials=none"), "target.trials"),
        (
            ("--sparsity", 0.5, "--precision", "i8"),
            "--precision, --min-sparsity: expected the target sparse-cpu",
        ),
        (("--sparsity", 0.5, "--min-sparsity", "90"), "--min-sparsity: expected auto, or a number from 0 to 1, got"),
        (("--speedup", "fast"), "expected a number such as 2x"),
        (("--size", "two"), "expected bytes such as 2MB"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_option_before_anything_runs(
    options: tuple[object, ...], message: str, trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    done = sparsify(*trained, *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "command line:" not in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--sparsity", 0.5, "--layer", "conv*=0"),
            "--layer: 'conv*' matches no prunable parameter; there are",
        ),
        (("--sparsity", 0.9, "--pattern", "block:7x3"), "--pattern: expected one that fits a layer, got block:7x3"),
        (
            ("--sparsity", 0.5, "--pattern", "channel", "--layer", "hidden1=0"),
            "--sparsity: asked for 0.5, but at most",
        ),
        (("--sparsity", 0.5, "--layer", "*=0.2"), "--sparsity: asked for 0.5, but every layer has one of its own, and"),
        (("--macs", 0.001), "--macs: asked for 0.001, but at least 0.05 are left"),
    ],
)
def test_what_the_network_cannot_give_is_refused_before_it_is_scored(
    options: tuple[object, ...], message: str, trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path
):
    done = sparsify(*trained, *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "recovery: " not in done.stderr
    assert not [path.name for path in (tmp_path / "r").iterdir() if path.name in ("preflight", "dense", "trials")]


def test_options_that_would_not_be_heard_are_refused(trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path):
    beside_recipe = sparsify("prune", "recipes/prune-digits.yaml", "--sparsity", 0.9, "--run-dir", tmp_path / "r")
    beside_onnx = sparsify("prune", "--onnx", tmp_path / "a.onnx", "--sparsity", 0.5, "--max-drop", 0.1)
    assert (beside_recipe.returncode, beside_onnx.returncode) == (2, 2)
    assert "--sparsity: expected no such option beside a recipe" in beside_recipe.stderr
    assert "--max-drop: expected no such option beside --onnx" in beside_onnx.stderr


def test_weights_that_would_run_code_are_exit_7(sparsify: Sparsify, tmp_path: Path):
    bad = tmp_path / "bad.pt"
    torch.save({"a": subprocess.Popen}, bad)
    options = ("--model", "mlp:64-20-10", "--weights", bad, "--data", "digits", "--sparsity", 0.5)
    done = sparsify("prune", *options, "--run-dir", tmp_path / "r")
    assert done.returncode == 7, done.stderr
    assert "Popen" in done.stderr


def test_weights_that_are_not_finite_are_refused_by_name(trained: tuple[str, ...], sparsify: Sparsify, tmp_path: Path):
    state = {name: tensor.clone() for name, tensor in read_state(Path(trained[4])).items()}
    state["hidden1.weight"][2, 3] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    options = ("prune", "--model", "mlp:64-20-10", "--weights", tmp_path / "nan.pt", "--data", "digits", *QUICK)
    done = sparsify(*options, "--sparsity", 0.5, "--dry-run")
    assert done.returncode == 2, done.stderr
    assert "nan.pt: expected finite weights, got nan or inf in hidden1.weight" in done.stderr


def test_an_onnx_file_alone_is_pruned_and_never_overwritten(half: Path, sparsify: Sparsify, tmp_path: Path):
    source, out = half / "export/onnxruntime-cpu/dense.onnx", tmp_path / "p.onnx"
    name = onnx.load(source).graph.input[0].name
    shape = ("--shape", f"{name}=3x1x8x8")
    done = sparsify("prune", "--onnx", source, "--sparsity", 0.5, "--out", out, "--json", *shape)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sparsity"]["achieved"] == pytest.approx(0.5, abs=1e-3)
    again = sparsify("prune", "--onnx", source, "--sparsity", 0.5, "--out", out)
    assert again.returncode == 2
