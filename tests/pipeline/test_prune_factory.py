"""`sparsify prune` whole on `pkg.module:factory`: every stage may import what was allowed, and nothing else may."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.slow
# Of its five outputs the data has three classes, as an ImageNet network on some of its classes.
FACTORY = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 5))
"""
QUICK = ("--set", "latency.pairs=20", "--set", "latency.launches=1", "--set", "compute.workers=1")


def test_a_factory_s_network_is_pruned_recovered_saved_and_exported(
    sparsify: Callable[..., Any], tmp_path: Path, monkeypatch
):
    (tmp_path / "somebodys_net.py").write_text(FACTORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(90) % 3)
    tensors = {
        "0.weight": torch.randn(8, 6),
        "0.bias": torch.randn(8),
        "2.weight": torch.randn(5, 8),
        "2.bias": torch.randn(5),
    }
    save_file(tensors, tmp_path / "net.safetensors")
    model = ("--model", "somebodys_net:make?width=8", "--weights", tmp_path / "net.safetensors")
    done = sparsify(
        "prune", *model, "--allow-import", "somebodys_net", "--data", f"npz:{tmp_path / 'data.npz'}", "--sparsity", 0.5,
        "--recover", "2it", "--run-dir", tmp_path / "run", "--json", *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["latency.onnxruntime-cpu.status"] == "measured"
    assert (tmp_path / "run/model/weights.safetensors").is_file()
