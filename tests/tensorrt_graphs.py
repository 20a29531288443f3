"""Small ONNX graphs for the TensorRT tests, written by hand so that no exporter's habits hide in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def two_of_four(weight: np.ndarray, axis: int) -> np.ndarray:
    """The weight with the first two of every 4 along `axis` zeroed."""
    pruned = weight.copy()
    index = np.arange(weight.shape[axis])
    np.moveaxis(pruned, axis, 0)[index % 4 < 2] = 0
    return pruned


def mlp(path: Path, *, sparse: bool = False, seed: int = 0) -> Path:
    """input (batch, 64) -> Gemm 32 -> Relu -> MatMul 16 -> logits."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((32, 64)).astype(np.float32)
    second = rng.standard_normal((32, 16)).astype(np.float32)
    if sparse:
        first, second = two_of_four(first, 1), two_of_four(second, 0)
    nodes = [
        helper.make_node("Gemm", ["input", "first", "bias"], ["h"], name="hidden", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "second"], ["logits"], name="output"),
    ]
    weights = {"first": first, "bias": rng.standard_normal(32).astype(np.float32), "second": second}
    return save(path, nodes, weights, ["batch", 64], ["batch", 16])


def convnet(path: Path, *, sparse: bool = False, residual: bool = False) -> Path:
    """input (batch, 4, 8, 8) -> Conv 16 -> Relu -> Conv 16 (-> Add of its input) -> Relu -> pool -> Gemm 10."""
    rng = np.random.default_rng(1)
    first = 0.2 * rng.standard_normal((16, 4, 3, 3)).astype(np.float32)
    second = 0.1 * rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    last = rng.standard_normal((10, 16)).astype(np.float32)
    if sparse:
        first, second, last = (two_of_four(weight, 1) for weight in (first, second, last))
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1] * 4),
        *([helper.make_node("Add", ["c2", "r1"], ["s"], name="add")] if residual else []),
        helper.make_node("Relu", ["s" if residual else "c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["logits"], name="output", transB=1),
    ]
    return save(path, nodes, {"w1": first, "w2": second, "w3": last}, ["batch", 4, 8, 8], ["batch", 10])


def unsupported(path: Path) -> Path:
    """A graph with a determinant, an operator that TensorRT lacks."""
    return save(path, [helper.make_node("Det", ["input"], ["logits"], name="odd_one")], {}, ["batch", 3, 3], ["batch"])


def save(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], source: list[object], sink: list[object]
) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, source)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, sink)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
