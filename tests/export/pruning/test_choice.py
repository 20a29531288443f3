from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from onnx import helper

from layer_graphs import normal, save_graph
from sparsify.errors import UsageError
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern
from sparsify_export.pruning.choice import Choice, choose
from sparsify_export.pruning.scores import magnitude
from sparsify_export.pruning.views import seen
from sparsify_export.pruning.weights import Weight, find_weights
from sparsify_export.pruning.wire import read_skeleton


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weight, ...]:
    """A Conv, a MatMul and a Gemm, with many equal magnitudes."""
    arrays = {"c": normal(8, 4, 3, 3), "b": normal(8, 12, seed=1), "a": normal(16, 12, seed=2)}
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"], name="conv"),
        helper.make_node("ReduceMean", ["h", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "b"], ["k"], name="matmul"),
        helper.make_node("Gemm", ["k", "a"], ["y"], name="gemm", transB=1),
    ]
    stored = {name: np.round(array * 4).astype(np.float32) / 4 for name, array in arrays.items()}
    path = tmp_path_factory.mktemp("choice") / "g.onnx"
    save_graph(path, nodes, {"x": ["n", 4, 5, 5]}, {"y": None}, {**stored, "axes": np.array([2, 3])})
    return find_weights(read_skeleton(path)).weights


def _masks(choice: Choice, weights: tuple[Weight, ...]) -> dict[str, torch.Tensor]:
    """(out, in, ...), all kept where a layer was skipped."""
    by_name = {weight.name: weight for weight in weights}
    return {
        name: seen(weight.view, torch.from_numpy(choice.kept[name].mask()))
        if name in choice.kept
        else torch.ones(weight.shape, dtype=torch.bool)
        for name, weight in by_name.items()
    }


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
@pytest.mark.parametrize(
    ("pattern", "sparsity"),
    [("unstructured", 0.0), ("unstructured", 0.3), ("unstructured", 0.9), ("block:4x1", 0.5), ("2:4", None)],
)
@pytest.mark.parametrize("overrides", [{}, {"b": 0.5}, {"*": 0.5, "a": 0.0}], ids=str)
def test_it_is_what_select_gives(
    weights: tuple[Weight, ...],
    allocation: Literal["global", "uniform", "erk"],
    pattern: str,
    sparsity: float | None,
    overrides: dict[str, float],
):
    parsed = Pattern.parse(pattern)
    choice = choose(weights, magnitude, pattern=parsed, sparsity=sparsity, allocation=allocation, overrides=overrides)
    expected = select(
        {weight.name: magnitude(weight) for weight in weights},
        pattern=parsed, sparsity=sparsity, allocation=allocation, overrides=overrides,
    )  # fmt: skip
    for name, mask in _masks(choice, weights).items():
        assert torch.equal(mask, expected.mask[name])
    assert choice.skipped.keys() == expected.skipped.keys()


def test_the_global_cut_by_sorting_everything(weights: tuple[Weight, ...]):
    choice = choose(
        weights, magnitude, pattern=Pattern("unstructured"), sparsity=0.6, allocation="global", overrides={}
    )
    entries = [
        (score, name, index)
        for name, weight in sorted((weight.name, weight) for weight in weights)
        for index, score in enumerate(magnitude(weight).reshape(-1).tolist())
    ]
    entries.sort(key=lambda entry: -entry[0])
    kept = {entry[1:] for entry in entries[: round(len(entries) * 0.4)]}
    found = {
        (name, index)
        for name, mask in _masks(choice, weights).items()
        for index in mask.reshape(-1).nonzero().squeeze(1).tolist()
    }
    assert found == kept
    assert set(choice.asked.values()) == {None}


def test_layers_may_be_named_by_their_nodes_and_the_longest_glob_wins(weights: tuple[Weight, ...]):
    choice = choose(
        weights, magnitude, pattern=Pattern("unstructured"), sparsity=0.5, allocation="uniform",
        overrides={"conv": 0.0, "*mm": 0.25, "gemm*": 0.75, "b": 0.0},
    )  # fmt: skip
    assert choice.skipped == {
        "c": "left dense by the override 'conv': 0",
        "b": "left dense by the override 'b': 0",
    }
    assert choice.asked == {"a": 0.75}
    assert choice.kept["a"].mask().sum() == 48


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"fc*": 0.5}, r"'fc\*' matches no .* conv"), ({"conv": 1.0}, "'conv': expected a fraction"), ({"a": -1}, "'a'")],
)
def test_overrides_that_cannot_be(weights: tuple[Weight, ...], overrides: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        choose(
            weights, magnitude, pattern=Pattern("unstructured"), sparsity=0.5, allocation="global", overrides=overrides
        )


def test_two_of_four_leaves_layers_that_it_does_not_fit(weights: tuple[Weight, ...]):
    choice = choose(weights, magnitude, pattern=Pattern.parse("1:8"), sparsity=None, allocation="global", overrides={})
    assert choice.skipped.keys() == {"a", "c"}
    assert "no multiple of 8" in choice.skipped["a"]
    assert choice.asked == {"b": 0.875}


def test_mixed_widths_compete_exactly(tmp_path: Path):
    """Float64 scores that float32 could not tell apart."""
    w = np.array([[1 + 1e-12, 1.0], [1 + 3e-12, 1 + 2e-12]])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 2]}, {"y": None}, {"w": w, "v": w.T.copy()}, dtype=11)
    found = find_weights(read_skeleton(path)).weights
    choice = choose(found, magnitude, pattern=Pattern("unstructured"), sparsity=0.5, allocation="global", overrides={})
    assert choice.kept["w"].mask().tolist() == [[False, False], [True, True]]
