"""`sparsify prune` whole on a network around torch's own attention: its heads go, and what is left can be had again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsify.models.saved import load

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")]
ENCODER = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True, dropout=0.0)
        self.encoder, self.output = nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

    def forward(self, x):
        x = x.flatten(1, 2)  # it comes as images of one channel
        padding = (x[..., 0] > 1) & (torch.arange(x.shape[1]) > 0)
        return self.output(self.encoder(x, src_key_padding_mask=padding)[:, 0])
"""
QUICK = ("--set", "latency.pairs=20", "--set", "latency.launches=1", "--set", "compute.workers=1")


@pytest.mark.parametrize("criterion", ["magnitude", "wanda"])
def test_torchs_encoder_loses_heads_is_trained_on_saved_and_exported(
    criterion: str, sparsify: Callable[..., Any], tmp_path: Path, monkeypatch
):
    (tmp_path / "somebodys_encoder.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path)
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(90, 5, 8)).astype(np.float32), y=np.arange(90) % 3)
    done = sparsify(
        "prune", "--model", "somebodys_encoder:Encoder", "--allow-import", "somebodys_encoder", "--data",
        f"npz:{tmp_path / 'data.npz'}", "--pattern", "channel", "--criterion", criterion, "--calibration", 16,
        "--sparsity", 0.4, "--recover", "2it", "--run-dir", tmp_path / "run", "--json", *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["export.sparsity"] == metrics["target.achieved"] >= 0.4
    assert metrics["latency.onnxruntime-cpu.status"] == "measured"
    layer = "skipped.encoder.layers.0"  # what joins the stream stays as wide as the input
    skipped = {f"{layer}.self_attn.out_proj", f"{layer}.linear2", "skipped.output"}
    assert {name for name in metrics if name.startswith("skipped.")} == skipped
    dense, left = (load(tmp_path / "run" / each, allow_import=("somebodys_encoder",)) for each in ("dense", "model"))
    attention = left.encoder.layers[0].self_attn
    assert attention.q_proj.out_features == 2 * attention.num_heads < 8
    assert dense.encoder.layers[0].self_attn.in_proj_weight.shape == (24, 8)
