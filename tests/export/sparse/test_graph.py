"""What counts as constant, however it is stored or made, and what graphs inside nodes see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import graph, number, operators, rewritten, sparse
from sparsify.errors import UsageError
from sparsify_export.sparse.graph import GraphView

QUANTISED = """(float[n,24] x) => (float[n,16] y) {
    q = QuantizeLinear(x, step, zero)
    d = DequantizeLinear(q, step, zero)
    v = DequantizeLinear <axis = 1> (w, steps, zeros)
    y = MatMul(d, v)
}"""


def quantised(path: Path, opset: int) -> Path:
    stored = {"step": number(0.05), "zero": np.uint8(128), "steps": np.full(16, 0.02, np.float32)}
    integers = {"w": np.rint(sparse(24, 16) * 40).astype(np.int8), "zeros": np.zeros(16, np.int8)}
    return graph(path / "g.onnx", QUANTISED, {**stored, **integers}, opset=opset)


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
def test_a_weight_that_is_dequantised_is_the_floats_it_stands_for(tmp_path: Path, opset: int):
    model = onnx.load(quantised(tmp_path, opset))
    if opset == 10:  # one scale for all, and no axis
        node = next(node for node in model.graph.node if node.output[0] == "v")
        node.input[1], node.input[2] = "step", ""
        del node.attribute[:]
    found = GraphView(model).constant("v")
    assert found is not None
    expected = np.rint(sparse(24, 16) * 40) * (0.05 if opset == 10 else 0.02)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_onnx_runtime_multiplies_in_integers_is_replaced_only_as_asked(tmp_path: Path):
    _, plan = rewritten(quantised(tmp_path, 21))
    assert plan.rows[0].reason.startswith("it is quantised")
    model, _ = rewritten(quantised(tmp_path, 21), min_sparsity=0.5)
    assert operators(model) == ["QuantizeLinear", "DequantizeLinear", "SparseLinear"]


def test_a_constant_that_cannot_be_computed_is_left_to_onnx_runtime(tmp_path: Path):
    text = "(float[n,24] x) => (float[n,16] y) { v = Reshape(w, shape) y = MatMul(x, v) }"
    path = graph(tmp_path / "g.onnx", text, {"w": sparse(24, 15), "shape": np.array([24, 16])})
    with pytest.raises(UsageError, match="cannot be reshaped"):
        rewritten(path)


@pytest.mark.parametrize("places", ["along all axes", "along each axis"])
@pytest.mark.parametrize("how", ["initializer", "node"])
def test_a_weight_stored_as_its_nonzeros(tmp_path: Path, places: str, how: str):
    path = graph(tmp_path / "g.onnx", "(float[n,24] x) => (float[n,16] y) { y = MatMul(x, w) }", {})
    model, dense = onnx.load(path), sparse(24, 16)
    along = np.argwhere(dense) if places == "along each axis" else np.flatnonzero(dense)
    values = numpy_helper.from_array(dense[dense != 0], "w")
    stored = onnx.helper.make_sparse_tensor(values, numpy_helper.from_array(along, "w_places"), dense.shape)
    if how == "initializer":
        model.graph.sparse_initializer.append(stored)
    else:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], sparse_value=stored))
    onnx.save(model, path)
    model, plan = rewritten(path)
    assert operators(model) == ["SparseLinear"]
    assert not model.graph.sparse_initializer
    assert plan.rows[0].sparsity == 1 - np.count_nonzero(dense) / dense.size


def test_graphs_inside_nodes_read_what_they_read(tmp_path: Path):
    """One branch multiplies by the same weight, the other reads the product: both stay there for them."""
    text = """(float[n,24] x, bool c) => (float[n,16] y) {
        h = MatMul(x, w)
        r = Relu(h)
        b = If (c) <
            then_branch = then_graph () => (float[n,16] t) { t = MatMul(x, w) },
            else_branch = else_graph () => (float[n,16] e) { e = Neg(h) }
        >
        y = Add(r, b)
    }"""
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, {"w": sparse(24, 16)}))
    assert operators(model) == ["SparseLinear", "Relu", "If", "Add"]
    assert [row.reason for row in plan.rows if not row.replaced] == ["it is in the graph inside 'b'"]
    assert {tensor.name for tensor in model.graph.initializer} == {"w", "w.sparse"}
