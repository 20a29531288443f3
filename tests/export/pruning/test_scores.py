from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from layer_graphs import LAYERS, Layer, normal, save_graph
from sparsify.errors import CorruptError
from sparsify_export.pruning import scores as scoring
from sparsify_export.pruning.scores import magnitude, ranked_within_outputs, wanda
from sparsify_export.pruning.weights import Weight, find_weights
from sparsify_export.pruning.wire import read_skeleton


def _weight(path: Path) -> Weight:
    return find_weights(read_skeleton(path)).weights[0]


def _linear(path: Path, w: np.ndarray) -> Weight:
    nodes = [helper.make_node("Identity", ["w"], ["i"]), helper.make_node("MatMul", ["x", "i"], ["y"])]
    dtype = helper.np_dtype_to_tensor_dtype(w.dtype)
    return _weight(save_graph(path, nodes, {"x": [1, len(w)]}, {"y": None}, {"w": w}, dtype=dtype))


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
def test_magnitudes_are_exact(dtype: type, tmp_path: Path):
    w = normal(6, 4).astype(dtype)
    got = magnitude(_linear(tmp_path / "g.onnx", w))
    assert got.dtype == (torch.float64 if dtype is np.float64 else torch.float32)
    np.testing.assert_array_equal(got.double().numpy(), np.abs(w.astype(np.float64)).T)


def test_quantised_weights_count_with_their_scale(tmp_path: Path):
    layer = next(layer for layer in LAYERS if layer.name == "dequantised")
    got = magnitude(_weight(layer.write(tmp_path / "g.onnx")))
    scale = layer.weights["scale"].reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(got.numpy(), np.abs(layer.weights["w"].astype(np.float32)) * scale)


def test_the_most_negative_integer_is_the_largest(tmp_path: Path):
    weights = {"w": np.array([[-128, 127]], np.int8), "scale": np.array(1, np.float32)}
    nodes = [helper.make_node("DequantizeLinear", ["w", "scale"], ["d"]), helper.make_node("MatMul", ["x", "d"], ["y"])]
    layer = Layer("int8", tuple(nodes), (1, 1), 1, weights)
    assert magnitude(_weight(layer.write(tmp_path / "g.onnx"))).tolist() == [[128.0], [127.0]]


def test_weights_that_are_not_finite_are_named(tmp_path: Path):
    w = normal(4, 4)
    w[1, 2] = np.nan
    with pytest.raises(CorruptError, match="tensor 'w': expected finite weights"):
        magnitude(_linear(tmp_path / "g.onnx", w))


def test_wanda_of_a_matrix(tmp_path: Path):
    w, x = normal(6, 4), normal(9, 6, seed=1)
    got = wanda(_linear(tmp_path / "g.onnx", w), torch.from_numpy((x.astype(np.float64) ** 2).sum(0, keepdims=True)))
    np.testing.assert_allclose(got.numpy(), np.abs(w.T) * np.linalg.norm(x, axis=0), rtol=1e-6)


def test_wanda_of_a_grouped_conv(tmp_path: Path):
    layer = next(layer for layer in LAYERS if layer.name == "conv-grouped")
    squares = torch.rand(2, 8, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = wanda(_weight(layer.write(tmp_path / "g.onnx")), squares)
    for out in range(6):
        expected = np.abs(layer.weights["w"][out]) * np.sqrt(squares[out // 3].numpy())
        np.testing.assert_allclose(got[out].numpy(), expected, rtol=1e-6)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_ranks_order_each_output_and_nothing_else(rows: int, columns: int, seed: int):
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(np.float32))
    ranks = ranked_within_outputs(scores)
    for row, ranked in zip(scores, ranks, strict=True):
        order = sorted(range(columns), key=lambda at: (row[at].item(), -at))
        assert ranked[order].tolist() == pytest.approx([(place + 1) / columns for place in range(columns)])


def test_ranks_do_not_depend_on_how_many_are_sorted_at_once(monkeypatch: pytest.MonkeyPatch):
    scores = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = ranked_within_outputs(scores)
    monkeypatch.setattr(scoring, "_RANKED", 12)
    assert torch.equal(ranked_within_outputs(scores), expected)
