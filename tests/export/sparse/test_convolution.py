"""Conv of one and two axes with every attribute, BatchNormalization and what follows it; and near misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import SparseConv, graph, normal, operators, rewritten, sparse
from sparsify_export.runtimes.onnxrt import OnnxRuntime

NORM = {"g": normal(8, seed=1), "s": normal(8, seed=2), "m": normal(8, seed=3), "v": np.abs(normal(8, seed=4)) + 0.5}
STORED = {**NORM, "b": normal(8), "channels": normal(1, 8, 1, 1), "three": normal(8, 1, 1), "width": normal(9)}


@pytest.mark.parametrize(
    ("attributes", "weight", "out"),
    [
        ("", (8, 4, 1, 1), (9, 9)),
        ("<strides = [2, 2]>", (8, 4, 1, 1), (5, 5)),
        ("<pads = [1, 1, 1, 1]>", (8, 4, 3, 3), (9, 9)),
        ("<pads = [0, 1, 2, 3], strides = [2, 1]>", (8, 4, 3, 2), (5, 12)),
        ("<dilations = [2, 3], pads = [2, 0, 2, 0]>", (8, 4, 3, 3), (9, 3)),
        ("<group = 2, pads = [1, 1, 1, 1]>", (8, 2, 3, 3), (9, 9)),
        ("<group = 4>", (8, 1, 2, 2), (8, 8)),
        ('<auto_pad = "VALID">', (8, 4, 3, 3), (7, 7)),
        ('<auto_pad = "SAME_UPPER", strides = [2, 2]>', (8, 4, 2, 3), (5, 5)),
        ('<auto_pad = "SAME_LOWER", strides = [2, 2]>', (8, 4, 2, 3), (5, 5)),
    ],
    ids=str,
)
def test_attributes(tmp_path: Path, attributes: str, weight: tuple[int, ...], out: tuple[int, int]):
    shape = f"[n,8,{out[0]},{out[1]}]"
    text = f"(float[n,4,9,9] x) => (float{shape} y) {{ h = Conv {attributes} (x, w, b) y = Relu(h) }}"
    found = graph(tmp_path / "g.onnx", text, {"w": sparse(*weight, sparsity=0.7), "b": normal(8)})
    model, plan = rewritten(found, min_sparsity=0.5)
    assert operators(model) == ["SparseConv"]
    assert plan.rows[0].fused == ("bias", "relu")
    assert plan.rows[0].positions == out[0] * out[1]


@pytest.mark.parametrize("attributes", ["", "<pads = [2, 1], strides = [2], dilations = [2], group = 2>"])
def test_one_axis(tmp_path: Path, attributes: str):
    weight = sparse(8, 2 if attributes else 4, 3)
    text = f"(float[n,4,20] x) => (float[n,8,?] y) {{ h = Conv {attributes} (x, w) e = Sigmoid(h) y = Mul(h, e) }}"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text.replace("?", "m"), {"w": weight}))
    assert operators(model) == ["SparseConv"]
    assert plan.rows[0].fused == ("silu",)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("h = Conv(x, w) i = BatchNormalization(h, g, s, m, v) y = Relu(i)", ("BatchNormalization", "relu")),
        (
            "h = Conv(x, w, b) i = BatchNormalization <epsilon = 0.01> (h, g, s, m, v) j = Add(z, i) y = Relu(j)",
            ("bias", "BatchNormalization", "residual", "relu"),
        ),
        (
            "h = Conv(x, w) i = BatchNormalization(h, g, s, m, v) j = BatchNormalization(i, s, g, m, v) y = Add(j, z)",
            ("BatchNormalization", "residual"),
        ),
        ("h = Conv(x, w) i = Add(h, channels) y = Add(i, z)", ("bias", "residual")),
        ("h = Conv(x, w) i = Add(three, h) y = Sum(i, z)", ("bias", "residual")),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_neighbours(tmp_path: Path, nodes: str, words: tuple[str, ...]):
    text = f"(float[n,4,9,9] x, float[n,8,9,9] z) => (float[n,8,9,9] y) {{ {nodes} }}"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, {**STORED, "w": sparse(8, 4, 1, 1, sparsity=0.7)}))
    assert operators(model) == ["SparseConv"]
    assert plan.rows[0].fused == words
    assert not {"g", "s", "m", "v", "b", "w"} & {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        # BatchNormalization after the residual, and one whose input is an output of the graph.
        ("h = Conv(x, w) i = Add(h, z) y = BatchNormalization(i, g, s, m, v)", ["BatchNormalization"]),
        # A vector along the width, and LayerNormalization over it.
        ("h = Conv(x, w) y = Add(h, width)", ["Add"]),
        ("h = Conv(x, w) y = LayerNormalization(h, width)", ["LayerNormalization"]),
        # Statistics that are computed.
        ("q = Abs(v) h = Conv(x, w) y = BatchNormalization(h, g, s, m, q)", ["Abs", "BatchNormalization"]),
    ],
)
def test_near_misses_stay(tmp_path: Path, nodes: str, left: list[str]):
    text = f"(float[n,4,9,9] x, float[n,8,9,9] z) => (float[n,8,9,9] y) {{ {nodes} }}"
    model, _ = rewritten(graph(tmp_path / "g.onnx", text, {**STORED, "w": sparse(8, 4, 1, 1, sparsity=0.7)}))
    assert sorted(operators(model)) == sorted(["SparseConv", *left])


def test_every_other_operator_with_weights_is_listed(tmp_path: Path):
    text = """(float[n,4,9,9] x) => (float[n,4,9,9] y) {
        h = ConvTranspose(x, t)
        i = Conv(h, w)
        y = ConvTranspose(i, u)
    }"""
    stored = {"t": sparse(4, 4, 1, 1), "w": sparse(4, 4, 1, 1), "u": sparse(4, 4, 1, 1)}
    _, plan = rewritten(graph(tmp_path / "g.onnx", text, stored))
    told = [(row.operator, row.replaced, row.reason) for row in plan.rows]
    assert told[0] == told[2] == ("ConvTranspose", False, "no sparse operator stands for it")
    assert told[1][:2] == ("Conv", True)


def test_padding_that_follows_the_input_is_left_where_the_input_varies(tmp_path: Path):
    from sparsify_export.sparse.layers import _window

    given = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    assert isinstance(_window(given, (3, 3), (1, 4, 9, 9), False), str)
    assert _window(given, (3, 3), (1, 4, 9, 9), True).pads == (1, 1, 1, 1)


@pytest.mark.parametrize(("stride", "replaced"), [(1, True), (2, False)])
def test_padding_for_an_image_of_any_size_is_left_where_it_differs(tmp_path: Path, stride: int, replaced: bool):
    """By steps of 2, images of 6 are filled up at one end and images of 7 at both; a size that was seen is not all."""
    text = f"""(float[n,8,h,v] x) => (float[n,4,i,j] y) {{
        y = Conv <auto_pad = "SAME_UPPER", strides = [{stride}, {stride}]> (x, w)
    }}"""
    source = graph(tmp_path / "g.onnx", text, {"w": sparse(4, 8, 3, 3)})
    model, plan = rewritten(source, shapes={"x": (1, 8, 6, 6)})
    assert plan.rows[0].replaced is replaced
    if not replaced:
        assert plan.rows[0].reason == "its padding, SAME_UPPER, depends on the size of its input"
        return
    x = normal(1, 8, 7, 7)
    (got,) = ReferenceEvaluator(model, new_ops=[SparseConv]).run(None, {"x": x})
    with OnnxRuntime(source) as dense:
        np.testing.assert_allclose(got, dense.infer({"x": x})["y"], atol=1e-5)


def test_three_spatial_axes_are_left(tmp_path: Path):
    text = "(float[n,4,5,5,5] x) => (float[n,8,5,5,5] y) { y = Conv(x, w) }"
    _, plan = rewritten(graph(tmp_path / "g.onnx", text, {"w": sparse(8, 4, 1, 1, 1)}))
    assert plan.rows[0].reason == "it has 3 spatial axes, not 1 or 2"
