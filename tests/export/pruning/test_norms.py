from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from layer_graphs import normal, save_graph
from sparsify.errors import CorruptError, UsageError
from sparsify_export.onnx_check import inputs_in
from sparsify_export.pruning.examples import Examples, given_examples
from sparsify_export.pruning.norms import input_norms
from sparsify_export.pruning.weights import find_weights
from sparsify_export.pruning.wire import read_skeleton


def _norms(path: Path, x: np.ndarray) -> dict[str, Tensor]:
    skeleton = read_skeleton(path)
    np.save(path.parent / "c.npy", x)
    examples = given_examples(path.parent / "c.npy", inputs_in(path, skeleton.model.graph))
    return input_norms(skeleton, find_weights(skeleton).weights, examples, path.parent / "out")


def _by_unfolding(x: np.ndarray, w: np.ndarray, groups: int, **how: object) -> np.ndarray:
    """Sums of squares of every row of im2col's matrix (Wanda on a Conv taken as a matrix product), by torch."""
    patches = F.unfold(torch.from_numpy(x).double(), tuple(w.shape[2:]), **how)  # (N, C kh kw, places)
    return (patches**2).sum((0, 2)).reshape(groups, w.shape[1], *w.shape[2:]).numpy()


@pytest.mark.parametrize("opset", [11, 13, 20])
@pytest.mark.parametrize("shape", [(11, 8), (11, 5, 8)], ids=str)
def test_matmul(shape: tuple[int, ...], opset: int, tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save_graph(
        tmp_path / "g.onnx", nodes, {"x": ["n", *shape[1:]]}, {"y": None}, {"w": normal(8, 5)}, opset=opset
    )
    x = normal(*shape, seed=1)
    expected = (x.astype(np.float64) ** 2).reshape(-1, 8).sum(0, keepdims=True)
    np.testing.assert_allclose(_norms(path, x)["w"], expected, rtol=1e-12)


def test_the_second_layer_s_inputs_are_the_first_one_s_outputs(tmp_path: Path):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"]),
    ]
    weights = {"w": normal(6, 8), "v": normal(6, 3)}
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8]}, {"y": None}, weights)
    x = normal(20, 8, seed=1)
    found = _norms(path, x)
    np.testing.assert_allclose(found["w"], (x**2).sum(0, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(found["v"], (np.maximum(x @ weights["w"].T, 0) ** 2).sum(0, keepdims=True), rtol=1e-5)


def test_a_weight_on_the_left_sees_rows_and_one_used_twice_sees_both(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["w", "x"], ["h"]), helper.make_node("MatMul", ["w", "h"], ["y"])]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8, 3]}, {"y": None}, {"w": normal(8, 8)})
    x = normal(5, 8, 3, seed=1)
    expected = ((x**2).sum((0, 2)) + ((normal(8, 8) @ x) ** 2).sum((0, 2)))[None]
    np.testing.assert_allclose(_norms(path, x)["w"], expected, rtol=1e-5)


@pytest.mark.parametrize(("turned", "axis"), [(0, 1), (1, 0)])
def test_gemm_with_its_input_turned(turned: int, axis: int, tmp_path: Path):
    shape = (3, 8) if not turned else (8, 3)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transA=turned)]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": shape}, {"y": None}, {"w": normal(8, 5)})
    x = normal(*shape, seed=1)
    np.testing.assert_allclose(_norms(path, x)["w"], (x**2).sum(1 - axis)[None], rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "attributes", "how"),
    [
        ((3, 3), {}, {}),
        ((3, 3), {"pads": [1, 1, 1, 1]}, {"padding": 1}),
        ((3, 2), {"strides": [2, 3], "pads": [1, 0, 1, 0]}, {"stride": (2, 3), "padding": (1, 0)}),
        ((2, 3), {"dilations": [2, 1]}, {"dilation": (2, 1)}),
        ((3, 3), {"auto_pad": "SAME_UPPER"}, {"padding": 1}),
        ((3, 3), {"auto_pad": "VALID", "strides": [2, 2]}, {"stride": 2}),
        ((1, 1), {}, {}),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_against_im2col(kernel, attributes, how, groups: int, tmp_path: Path):
    w, x = normal(4, 6 // groups, *kernel), normal(11, 6, 7, 9, seed=1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **attributes)]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 6, 7, 9]}, {"y": None}, {"w": w})
    np.testing.assert_allclose(_norms(path, x)["w"], _by_unfolding(x, w, groups, **how), rtol=1e-9)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2])
def test_uneven_padding_is_onnxruntime_s(mode: str, stride: int, tmp_path: Path):
    """With one input value and a kernel of ones the outputs say which windows meet it."""
    w, x = np.ones((1, 1, 4), np.float32), np.zeros((1, 1, 7), np.float32)
    for at in range(7):
        x[:] = 0
        x[0, 0, at] = 3
        sums = np.zeros(4)
        for place in range(4):
            one = np.zeros_like(w)
            one[0, 0, place] = 1
            nodes = [helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=mode, strides=[stride])]
            path = save_graph(tmp_path / "g.onnx", nodes, {"x": [1, 1, 7]}, {"y": None}, {"w": one})
            sums[place] = _run_sum(path, x)
        np.testing.assert_allclose(_norms(path, x)["w"].reshape(-1), sums)


def _run_sum(path: Path, x: np.ndarray) -> float:
    from layer_graphs import run

    return float((run(path, {"x": x})[0] ** 2).sum())


def test_conv_transpose_counts_whole_channels(tmp_path: Path):
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2)]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8, 5]}, {"y": None}, {"w": normal(8, 3, 2)})
    x = normal(9, 8, 5, seed=1)
    np.testing.assert_allclose(_norms(path, x)["w"], (x**2).sum((0, 2)).reshape(2, 4, 1), rtol=1e-5)


def test_nothing_is_left_behind_and_the_graph_is_not_touched(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["norm0"])]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8]}, {"norm0": None}, {"w": normal(8, 5)})
    before = path.read_bytes()
    _norms(path, normal(3, 8))
    assert path.read_bytes() == before
    assert not list((tmp_path / "out").iterdir())


def test_inputs_that_overflow_are_named(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"], name="last")]
    weights = {"w": np.full((4, 4), 1e30, np.float32), "v": normal(4, 4)}
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 4]}, {"y": None}, weights)
    with pytest.raises(CorruptError, match="MatMul 'last': expected finite inputs"):
        _norms(path, np.full((2, 4), 1e30, np.float32))


def test_examples_that_the_graph_refuses(tmp_path: Path):
    nodes = [helper.make_node("Gather", ["table", "x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    weights = {"table": normal(4, 8), "w": normal(8, 5)}
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n"]}, {"y": None}, weights)
    import onnx

    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path.write_bytes(model.SerializeToString())
    skeleton = read_skeleton(path)
    examples = Examples("calibration", 1, 1, {"x": np.array([99])}, frozenset())
    with pytest.raises(UsageError, match="ONNX Runtime fails on the examples"):
        input_norms(skeleton, find_weights(skeleton).weights, examples, tmp_path)
