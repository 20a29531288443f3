"""`sparsify prune` whole on tasks other than classification, and with schedules and recoveries combined."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sparsify as public

pytestmark = pytest.mark.slow
Sparsify = Callable[..., Any]
QUICK = ("--set", "latency.pairs=20", "--set", "latency.launches=1", "--set", "compute.workers=1")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def metrics_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "metrics.json").read_text())


def test_a_regression_is_scored_in_the_targets_units(
    sparsify: Sparsify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of y = Wx a least-squares layer knows all; what is left of it after pruning is computed again by numpy."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)).astype(np.float32)
    w = rng.normal(size=(2, 8)).astype(np.float32)
    np.savez(tmp_path / "line.npz", x=x, y=x @ w.T)
    (tmp_path / "one_layer.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(8, 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    save_file({"weight": torch.from_numpy(w), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    model = ("--model", "one_layer:make", "--allow-import", "one_layer", "--weights", tmp_path / "w.safetensors")
    data = ("--data", f"npz:{tmp_path / 'line.npz'}", "--normalize", "none")
    asked = ("--sparsity", 0.5, "--recover", "none", "--run-dir", tmp_path / "run")
    done = sparsify("prune", *model, *data, *asked, *QUICK)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    kept = public.load(tmp_path / "run/model", allow_import=("one_layer",)).weight.detach().numpy()
    assert np.count_nonzero(kept) == 8 and (np.abs(w[kept == 0]).max() <= np.abs(w[kept != 0]).min())
    scores = load_file(tmp_path / "run/test/scores.safetensors")
    assert metrics["network.dense.validation.mean"] == pytest.approx(0, abs=1e-6)
    expected = np.sort(-np.abs(x @ w.T - x @ kept.T).mean(1))
    found = scores["model"].numpy()
    assert all(np.abs(expected - value).min() < 1e-5 for value in found)
    assert metrics["export.test_drop"] == pytest.approx(-found.mean(), abs=1e-5)


def test_tokens_are_classified_one_by_one(sparsify: Sparsify, tmp_path: Path):
    """Labels are what the network itself says of every token, so that dense is right everywhere."""
    pytest.importorskip("torchvision_schemas")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=16, num_labels=3, **SIZES)
    network = transformers.BertForTokenClassification(config).eval()
    network.save_pretrained(tmp_path / "bert")
    ids = torch.randint(1, 40, (120, 10))
    mask = torch.ones_like(ids)
    mask[::3, 6:] = 0
    with torch.no_grad():
        labels = network(input_ids=ids, attention_mask=mask).logits.argmax(-1)
    labels[mask == 0] = -100
    arrays = {"ids": ids, "mask": mask, "labels": labels}
    np.savez(tmp_path / "texts.npz", **{name: value.numpy() for name, value in arrays.items()})
    model = ("--model", f"transformers:{tmp_path / 'bert'}#token-classification")
    data = ("--data", f"tokens:{tmp_path / 'texts.npz'}", "--pattern", "2:4", "--recover", "4it")
    done = sparsify("prune", *model, *data, *QUICK, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["run.metric"] == "token_accuracy" and metrics["network.dense.validation.mean"] == 1.0
    weights = public.load(tmp_path / "run/model").state_dict()
    linear = [value for name, value in weights.items() if value.ndim == 2 and "embedd" not in name]
    assert linear and all(((rows != 0).reshape(rows.shape[0], -1, 4).sum(-1) <= 2).all() for rows in linear)


@pytest.mark.parametrize("schedule", ["gradual", "rigl"])
def test_a_schedule_ends_at_the_sparsity_that_was_asked_for(
    schedule: str, finished: Path, sparsify: Sparsify, tmp_path: Path
):
    weights = finished / "replicate_0/dense/weights.safetensors"
    options = ("--model", "mlp:64-20-10", "--weights", weights, "--data", "digits", *QUICK)
    asked = ("--sparsity", 0.8, "--recover", "60it", "--set", f"removal.schedule={{name: {schedule}}}")
    done = sparsify("prune", *options, *asked, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    kept = [value for value in public.load(tmp_path / "run/model").state_dict().values() if value.ndim == 2]
    assert sum(int((value == 0).sum()) for value in kept) == pytest.approx(0.8 * 1480, abs=2)
    assert metrics["target.outcome"] == "met" and metrics["export.sparsity"] == pytest.approx(0.8, abs=2e-3)


def test_recoveries_are_combined_and_make_good_what_pruning_cost(finished: Path, sparsify: Sparsify, tmp_path: Path):
    weights = finished / "replicate_0/dense/weights.safetensors"
    options = ("--model", "mlp:64-20-10", "--weights", weights, "--data", "digits", "--calibration", 256, *QUICK)
    more = ("--set", "recovery.reconstruct={}", "--set", "recovery.recalibrate={}")
    done = sparsify("prune", *options, "--sparsity", 0.8, "--recover", "60it", *more, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    told = metrics["run.recovery"]
    assert all(part in told for part in ("reconstruct", "recalibrate", "finetune 60it", "distill"))
    pruned, recovered = (metrics[f"network.{name}.validation.mean"] for name in ("pruned", "recovered"))
    assert recovered > pruned + 0.1
