"""What a prune run would do, said before it does any of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsify.errors import UsageError
from sparsify.models.build import build
from sparsify.pipeline.names import load_checked_prune
from sparsify.pipeline.prune_dry_run import PruneDryRun, dry_run
from sparsify.store.weights import save_tensors


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    module = build("mlp:64-16-10", input_shape=(1, 8, 8), classes=10, seed=0)
    save_tensors(tmp_path / "net.safetensors", module.state_dict())
    return tmp_path / "net.safetensors"


@pytest.fixture
def dry(weights: Path, tmp_path: Path) -> Callable[..., PruneDryRun]:
    def of(target: dict[str, Any], **removal: Any) -> PruneDryRun:
        trained = {"model": "mlp:64-16-10", "weights": str(weights)}
        tree = {"kind": "prune", "name": "a", "trained": trained, "data": "digits", "target": target}
        tree |= {"removal": removal, "recovery": {"finetune": {"steps": "1ep"}}}
        return dry_run(load_checked_prune(json.dumps(tree), "here"), tmp_path / "run")

    return of


def test_the_network_the_reach_and_the_stages_of_a_removal(dry: Callable[..., PruneDryRun], tmp_path: Path):
    plan = dry({"macs": 0.5}, pattern="channel", round_to=4)
    assert [(row.module, row.status) for row in plan.network.rows] == [("hidden1", "prunable"), ("output", "skipped")]
    assert plan.network.reach.macs == plan.network.reach.macs_dense * 0.25 / (64 * 16 + 16 * 10)
    assert list(plan.stages.values()) == [
        (kind, "to run")
        for kind in ("preflight", "source", "prune", "recover", "model", "compare", "export", "latency")
    ]
    assert not (tmp_path / "run").exists() and not plan.searched and not plan.doubts


def test_a_search_says_how_often(dry: Callable[..., PruneDryRun]):
    plan = dry({"size": 3000, "trials": 5}, pattern="channel")
    assert "up to 5 trials" in plan.searched and "latency" not in [kind for kind, _ in list(plan.stages.values())[:4]]
    assert "trials/most/pruned" in plan.stages and not plan.doubts
    assert "up to four smaller removals" in dry({"sparsity": 0.5, "max_drop": 0.01}).searched


@pytest.mark.parametrize(
    ("target", "removal", "says"),
    [
        ({"sparsity": 0.95}, {"pattern": "channel"}, "sparsity: asked for 0.95, but at most 0.9375 can go"),
        (
            {"macs": 0.4},
            {"pattern": "channel", "round_to": 8},
            "0.5 are left; let more remain, round to fewer",
        ),
        ({"size": 3000}, {"pattern": "channel", "overrides": {"hidden1": 0}}, "channels: none can go"),
        ({}, {"pattern": "2:4", "overrides": {"*": 0}}, "got 2:4, which fits none (hidden1.weight left dense by"),
        ({"sparsity": 0.5}, {"pattern": "block:7x3"}, "got block:7x3, which fits none (hidden1.weight is a matrix of"),
    ],
    ids=["sparsity", "macs", "a search", "n:m", "blocks"],
)
def test_what_would_be_refused_is_said(
    dry: Callable[..., PruneDryRun], target: dict[str, float], removal: dict[str, Any], says: str
):
    (doubt,) = [doubt for doubt in dry(target, **removal).doubts if "round_to" not in doubt]
    assert doubt.startswith("it would be refused: ") and says in doubt


def test_numbers_are_no_classes_and_are_refused_before_anything_is_scored(weights: Path, tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 1, 8, 8), np.float32), y=np.linspace(0, 1, 400).reshape(40, 10))
    trained = {"model": "mlp:64-16-10", "weights": str(weights)}
    tree = {"kind": "prune", "name": "a", "trained": trained, "data": f"npz:{tmp_path / 'a.npz'}"}
    tree |= {"target": {"sparsity": 0.5}}
    assert dry_run(load_checked_prune(json.dumps(tree), "here"), tmp_path / "run").network.rows
    tree |= {"task": "classification"}
    with pytest.raises(UsageError, match=r"expected data whose labels are classes.*give --task regression"):
        dry_run(load_checked_prune(json.dumps(tree), "here"), tmp_path / "run")


TWO_HEADS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Linear(64, 8), nn.Linear(8, 10), nn.Linear(8, 10)

    def forward(self, x):
        h = self.body(x.flatten(1)).relu()
        return (self.head(h), self.auxiliary(h)) if self.training else self.head(h)
"""


def test_a_network_of_two_heads_in_training_is_refused_where_it_is_to_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "two_heads.py").write_text(TWO_HEADS)
    monkeypatch.syspath_prepend(tmp_path)
    tree = {"kind": "prune", "name": "a", "trained": {"model": "two_heads:Net", "allow_import": ["two_heads"]}}
    tree |= {"data": "digits", "target": {"sparsity": 0.5}}
    assert dry_run(load_checked_prune(json.dumps(tree), "here"), tmp_path / "run").network.rows
    tree |= {"recovery": {"finetune": {"steps": "1ep"}}}
    with pytest.raises(UsageError, match="in training mode as in eval mode, got tuple"):
        dry_run(load_checked_prune(json.dumps(tree), "here"), tmp_path / "run")


@pytest.mark.slow
def test_the_command_prints_it_writes_nothing_and_exits_0(weights: Path, tmp_path: Path, sparsify: Callable[..., Any]):
    options = ("--model", "mlp:64-16-10", "--weights", weights, "--data", "digits", "--run-dir", tmp_path / "run")
    done = sparsify("prune", *options, "--pattern", "2:4", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hidden1  Linear      16  prunable" in done.stdout and "to run    latency" in done.stdout
    as_json = sparsify("prune", *options, "--pattern", "2:4", "--dry-run", "--json")
    assert json.loads(as_json.stdout)["network"]["reach"]["sparsity"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors"]
