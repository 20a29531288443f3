"""`sparsify prune` whole on `pkg.module:factory`: every stage may import what was allowed, and nothing else may."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsify.pipeline.prune_inputs import with_known_input
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.store.network_weights import load_weights

pytestmark = pytest.mark.slow
# Of its five outputs the data has three classes, as an ImageNet network on some of its classes.
FACTORY = """
import torch
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 5))

class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

def without_a_graph(width=4):
    return nn.Sequential(nn.Linear(6, width), Bessel(), nn.Linear(width, 5))

class OfLengthOne(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)

def normalised(width=4):
    return nn.Sequential(OfLengthOne(6, width), nn.ReLU(), nn.Linear(width, 5))
"""
# No gradient reaches its output, so that nothing can be traced; its head is registered first.
UNFOLLOWED = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(6, 8)

    def forward(self, x):
        return self.head(self.body(x).relu()).detach()
"""
QUICK = ("--set", "latency.pairs=20", "--set", "latency.launches=1", "--set", "compute.workers=1")


Sparsify = Callable[..., Any]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Any, ...]]:
    """The options that name one of the factories, with weights of width 8, and data of three classes."""
    (tmp_path / "somebodys_net.py").write_text(FACTORY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(90) % 3)
    torch.manual_seed(0)
    tensors = {
        "0.weight": torch.randn(8, 6),
        "0.bias": torch.randn(8),
        "2.weight": torch.randn(5, 8),
        "2.bias": torch.randn(5),
    }
    save_file(tensors, tmp_path / "net.safetensors")
    more = ("--weights", tmp_path / "net.safetensors", "--allow-import", "somebodys_net", *QUICK)
    data = ("--data", f"npz:{tmp_path / 'data.npz'}")
    return lambda factory: ("prune", "--model", f"somebodys_net:{factory}?width=8", *more, *data)


def test_a_factory_s_network_is_pruned_recovered_saved_and_exported(
    given: Callable[[str], tuple[Any, ...]], outside: Sparsify, tmp_path: Path
):
    done = outside(*given("make"), "--sparsity", 0.5, "--recover", "2it", "--run-dir", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["latency.onnxruntime-cpu.status"] == "measured"
    assert (tmp_path / "run/model/weights.packed").is_file()


def test_arrays_are_fed_to_a_network_of_one_s_own_as_they_lie_and_the_resolved_recipe_says_so(
    given: Callable[[str], tuple[Any, ...]], sparsify: Sparsify, tmp_path: Path
):
    x = np.random.default_rng(1).normal(7, 3, size=(90, 6)).astype(np.float32)
    tensors = load_file(tmp_path / "net.safetensors")
    hidden = torch.relu(torch.from_numpy(x) @ tensors["0.weight"].T + tensors["0.bias"])
    answers = (hidden @ tensors["2.weight"].T + tensors["2.bias"]).argmax(1).numpy()
    np.savez(tmp_path / "data.npz", x=x, y=answers)
    asked = ("--sparsity", 0.5, "--recover", "none")
    scores = {}
    for word in ("", "standard"):
        options = ("--run-dir", tmp_path / f"run{word}", *(("--normalize", word) if word else ()))
        done = sparsify(*given("make"), *asked, *options)
        assert done.returncode == 0, done.stderr
        assert ("data: arrays as they lie" in done.stderr) == (word == "")
        scores[word] = json.loads((tmp_path / f"run{word}/metrics.json").read_text())["network.dense.validation.mean"]
    assert scores[""] == 1 > scores["standard"]
    assert "normalize: none" in (tmp_path / "run/resolved.yaml").read_text()


@pytest.mark.parametrize(
    ("trained", "normalize"),
    [
        ({"model": "plugin:theirs"}, "none"),
        ({"model": "somebodys_net:make", "allow_import": ["somebodys_net"]}, "none"),
        ({"model": "mlp:6-8-5"}, "standard"),
        ({"model": "torchvision:resnet18"}, "standard"),
    ],
    ids=lambda one: one.get("model") if isinstance(one, dict) else one,
)
def test_only_arrays_for_a_network_of_one_s_own_are_left_as_they_lie(trained: dict[str, Any], normalize: str):
    tree = {"kind": "prune", "name": "a", "trained": trained, "target": {"sparsity": 0.5}}
    recipe, told = with_known_input(PruneRecipe.model_validate({**tree, "data": "npz:a.npz"}))
    assert (recipe.data.normalize, bool(told)) == (normalize, normalize == "none")
    assert with_known_input(PruneRecipe.model_validate(recipe.model_dump(mode="json"))) == (recipe, "")
    for data in ({"source": "npz:a.npz", "normalize": "unit"}, {"source": "digits"}):
        other = PruneRecipe.model_validate({**tree, "data": data})
        assert with_known_input(other) == (other, "")


def test_a_network_that_has_no_onnx_graph_is_refused_before_anything_is_trained(
    given: Callable[[str], tuple[Any, ...]], sparsify: Sparsify, tmp_path: Path
):
    done = sparsify(*given("without_a_graph"), "--sparsity", 0.5, "--recover", "2it", "--run-dir", tmp_path / "run")
    assert done.returncode == 2
    assert "expected a network that torch.onnx can export" in done.stderr
    assert not (tmp_path / "run/trials").exists()


def test_channels_of_a_network_that_cannot_be_followed_are_masked_as_asked_and_that_is_said(
    sparsify: Callable[..., Any], tmp_path: Path, monkeypatch
):
    (tmp_path / "unfollowed_net.py").write_text(UNFOLLOWED)
    monkeypatch.syspath_prepend(tmp_path)
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(90, 6)).astype(np.float32), y=np.arange(90) % 3)
    tensors = {"head.weight": torch.randn(3, 8), "head.bias": torch.randn(3), "body.weight": torch.randn(8, 6)}
    save_file({**tensors, "body.bias": torch.randn(8)}, tmp_path / "net.safetensors")
    model = ("prune", "--model", "unfollowed_net:Net", "--weights", tmp_path / "net.safetensors")
    asked = ("--pattern", "channel", "--layer", "body=0.5", "--recover", "none", "--run-dir", tmp_path / "run")
    options = ("--allow-import", "unfollowed_net", "--data", f"npz:{tmp_path / 'data.npz'}", *asked, *QUICK)
    done = sparsify(*model, *options, "--sparsity", 0.1)
    assert done.returncode == 0, done.stderr
    told, page = " ".join(done.stderr.split()), (tmp_path / "run/report.html").read_text()
    assert "channel, masked and not removed by magnitude" in told
    for said in (told, page):
        assert (
            "channels are masked, not removed (their weights are zero, their biases stay, no work is saved): " in said
        )
    assert "of the prunable weights (channel, masked and not removed)" in page
    weights = load_weights(tmp_path / "run/model")
    assert int((weights["body.weight"] != 0).any(1).sum()) == 4  # the override; 0.1 alone would leave 6
    assert torch.equal(weights["head.weight"], tensors["head.weight"])
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["skipped.head"] == "layer head gives the network's output"
    assert metrics["export.sparsity"] == pytest.approx(24 / 72)


def test_how_arrays_are_fed_is_said_and_a_network_that_zeros_make_infinite_refused(
    given: Callable[[str], tuple[Any, ...]], sparsify: Sparsify, tmp_path: Path
):
    options = ("--sparsity", 0.95, "--recover", "none", "--run-dir", tmp_path / "run")
    done = sparsify(*given("normalised"), *options)
    assert done.returncode == 2, done.stderr
    assert "data: arrays as they lie; where the network was trained otherwise, say --normalize" in done.stderr
    assert "Sequential: expected finite outputs on the validation data, got a loss of nan" in done.stderr
