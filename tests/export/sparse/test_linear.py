"""MatMul and Gemm with every neighbour, written in every way known, and near misses that must stay as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import graph, normal, number, operators, rewritten, sparse

HEAD = "(float[n,5,24] x) => (float[n,5,16] y) "
STORED = {
    "w": sparse(24, 16),
    "b": normal(16),
    "v": sparse(16, 16, seed=1),
    "g": normal(16, seed=2),
    "s": normal(16, seed=3),
    "half": number(0.5),
    "no": np.array(False),
    "yes": np.array(True),
    "one": number(1),
    "two": number(2),
    "three": number(3),
    "root2": number(np.sqrt(2)),
    "invroot2": number(np.sqrt(0.5)),
    "c": number(0.044715),
    "k": number(np.sqrt(2 / np.pi)),
    "eps": number(1e-5),
    "last": np.array([-1]),
    "zero": number(0),
    "six": number(6),
    "position": normal(5, 16),
    "five": normal(5, 1),
}
BIAS = "h = MatMul(x, w) v0 = Add(h, b) "
GELU = {
    "torch": "d = Div(v0, root2) e = Erf(d) a = Add(e, one) m = Mul(v0, a) y = Mul(m, half)",
    "half first": "m = Mul(v0, half) d = Mul(v0, invroot2) e = Erf(d) a = Add(one, e) y = Mul(m, a)",
    "half inside": "d = Div(v0, root2) e = Erf(d) a = Add(e, one) m = Mul(a, half) y = Mul(v0, m)",
    "multiplied out": "d = Div(v0, root2) e = Erf(d) m = Mul(v0, half) p = Mul(m, e) y = Add(m, p)",
    "operator": "y = Gelu(v0)",
    "operator, approximate none": 'y = Gelu <approximate = "none"> (v0)',
    "onnxruntime's": "y = com.microsoft.Gelu(v0)",
}
TANH = {
    "power": "p = Pow(v0, three) q = Mul(c, p) r = Add(v0, q) t = Mul(k, r) e = Tanh(t) a = Add(one, e) "
    "m = Mul(v0, half) y = Mul(m, a)",
    "cubed by hand": "p = Mul(v0, v0) q = Mul(p, v0) r = Mul(q, c) t = Add(r, v0) u = Mul(t, k) e = Tanh(u) "
    "a = Add(e, one) m = Mul(a, v0) y = Mul(m, half)",
    "factored": "p = Mul(v0, v0) q = Mul(c, p) r = Add(q, one) t = Mul(v0, k) u = Mul(t, r) e = Tanh(u) "
    "a = Add(e, one) m = Mul(v0, a) y = Mul(half, m)",
    "operator": 'y = Gelu <approximate = "tanh"> (v0)',
    "onnxruntime's": "y = com.microsoft.FastGelu(v0)",
}
HARDSWISH = {
    "operator": "y = HardSwish(v0)",
    "hard sigmoid": "e = HardSigmoid <alpha = 0.1666667, beta = 0.5> (v0) y = Mul(v0, e)",
    "by hand": "a = Add(v0, three) e = Clip(a, zero, six) m = Mul(v0, e) y = Div(m, six)",
    "sixth first": "a = Add(three, v0) e = Clip(a, zero, six) d = Div(e, six) y = Mul(d, v0)",
}
NORM = {
    "operator": "y = LayerNormalization <axis = -1, epsilon = 0.001> (r, g, s)",
    "operator, axis counted": "y = LayerNormalization <axis = 2> (r, g, s)",
    "operator without shift": "y = LayerNormalization (r, g)",
    "pow": "m = ReduceMean(r, last) d = Sub(r, m) p = Pow(d, two) q = ReduceMean(p, last) e = Add(q, eps) t = Sqrt(e) "
    "u = Div(d, t) o = Mul(u, g) y = Add(o, s)",
    "squared by hand, two differences": "m = ReduceMean(r, last) d = Sub(r, m) f = Sub(r, m) p = Mul(d, d) "
    "q = ReduceMean(p, last) e = Add(eps, q) t = Sqrt(e) u = Div(f, t) o = Mul(g, u) y = Add(s, o)",
    "reciprocal": "m = ReduceMean(r, last) d = Sub(r, m) p = Mul(d, d) q = ReduceMean(p, last) e = Add(q, eps) "
    "t = Sqrt(e) i = Reciprocal(t) u = Mul(d, i) o = Mul(u, g) y = Add(o, s)",
    "one over": "m = ReduceMean(r, last) d = Sub(r, m) p = Mul(d, d) q = ReduceMean(p, last) e = Add(q, eps) "
    "t = Sqrt(e) i = Div(one, t) u = Mul(i, d) o = Mul(u, g) y = Add(o, s)",
}


def fused(path: Path, text: str, **more: np.ndarray) -> tuple[list[str], tuple[str, ...]]:
    model, plan = rewritten(graph(path / "g.onnx", text, {**STORED, **more}))
    (row,) = [row for row in plan.rows if row.weight == "w"]
    assert row.replaced and row.kernel == "auto"
    return operators(model), row.fused


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("y = MatMul(x, w)", ()),
        ("h = MatMul(x, w) y = Add(h, b)", ("bias",)),
        ("h = MatMul(x, w) y = Add(b, h)", ("bias",)),
        ("h = MatMul(x, w) y = Add(h, half)", ("bias",)),
        (BIAS + "y = Relu(v0)", ("bias", "relu")),
        ("h = MatMul(x, w) i = Identity(h) j = Add(i, b) l = Dropout(j) y = Relu(l)", ("bias", "relu")),
        ("h = MatMul(x, w) j = Add(h, b) l = Dropout(j, half, no) y = Relu(l)", ("bias", "relu")),
        (BIAS + "y = Clip(v0, zero, six)", ("bias", "relu6")),
        (BIAS + "e = Sigmoid(v0) y = Mul(v0, e)", ("bias", "silu")),
        (BIAS + "e = Sigmoid(v0) y = Mul(e, v0)", ("bias", "silu")),
        ("h = MatMul(x, w) v0 = Add(h, b) y = Add(v0, s)", ("bias",)),
        ("h = MatMul(x, w) v0 = Add(h, b) y = Mul(half, v0)", ("bias", "scale")),
        ("h = MatMul(x, w) i = Mul(h, g) v0 = Add(i, b) y = Relu(v0)", ("scale", "bias", "relu")),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_bias_and_activation(tmp_path: Path, nodes: str, words: tuple[str, ...]):
    assert fused(tmp_path, HEAD + "{" + nodes + "}") == (["SparseLinear"], words)


@pytest.mark.parametrize("form", GELU)
def test_gelu_however_it_is_written(tmp_path: Path, form: str):
    assert fused(tmp_path, HEAD + "{" + BIAS + GELU[form] + "}") == (["SparseLinear"], ("bias", "gelu"))


@pytest.mark.parametrize("form", TANH)
def test_tanh_gelu_however_it_is_written(tmp_path: Path, form: str):
    assert fused(tmp_path, HEAD + "{" + BIAS + TANH[form] + "}") == (["SparseLinear"], ("bias", "gelu_tanh"))


@pytest.mark.parametrize("form", HARDSWISH)
def test_hardswish_however_it_is_written(tmp_path: Path, form: str):
    assert fused(tmp_path, HEAD + "{" + BIAS + HARDSWISH[form] + "}") == (["SparseLinear"], ("bias", "hardswish"))


def test_bounds_may_be_attributes_as_before_opset_11(tmp_path: Path):
    text = HEAD + "{" + BIAS + "y = Clip <min = 0.0, max = 6.0> (v0) }"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, STORED, opset=10))
    assert (operators(model), plan.rows[0].fused) == (["SparseLinear"], ("bias", "relu6"))


@pytest.mark.parametrize("form", NORM)
def test_layer_norm_however_it_is_written(tmp_path: Path, form: str):
    text = "(float[n,5,24] x, float[n,5,16] z) => (float[n,5,16] y) {" + BIAS + "r = Add(z, v0) " + NORM[form] + "}"
    assert fused(tmp_path, text) == (["SparseLinear"], ("bias", "residual", "LayerNorm"))


def test_a_residual_made_after_the_layer_is_waited_for(tmp_path: Path):
    """The operator stands where the sum stood: its residual does not exist any earlier."""
    text = HEAD + "{ h = MatMul(x, w) q = Neg(x) z = MatMul(q, w2) y = Add(h, z) }"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, {**STORED, "w2": normal(24, 16)}))
    assert operators(model) == ["Neg", "MatMul", "SparseLinear"]
    assert [(row.replaced, row.fused) for row in plan.rows] == [(True, ("residual",)), (False, ())]


def test_of_two_layers_that_are_added_one_takes_the_sum(tmp_path: Path):
    text = HEAD + "{ h = MatMul(x, w) hb = Add(h, b) z = MatMul(x, w2) zb = Add(z, s) r = Add(hb, zb) y = Relu(r) }"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, {**STORED, "w2": sparse(24, 16, seed=7)}))
    assert operators(model) == ["SparseLinear", "SparseLinear"]
    assert [row.fused for row in plan.rows] == [("bias", "residual", "relu"), ("bias",)]


def test_equal_weights_are_stored_once_and_counted_once(tmp_path: Path):
    text = HEAD + "{ h = MatMul(x, w) z = MatMul(x, w) s0 = Sigmoid(z) y = Add(h, s0) }"
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, STORED))
    assert [tensor.name for tensor in model.graph.initializer] == ["w.sparse"]
    assert [row.dense_bytes for row in plan.rows] == [4 * 24 * 16, 0]
    assert model.graph.node[0].input[1] == model.graph.node[-1].input[1] == "w.sparse"


@pytest.mark.parametrize(
    ("attributes", "addend", "words"),
    [
        ("", "", ()),
        ("<transB = 1>", "", ()),
        ("<alpha = 0.5, beta = 2.0>", ", b", ("bias",)),
        ("<transB = 1>", ", row", ("bias",)),
        ("<alpha = 3.0>", ", one", ("bias",)),
        ("<beta = 0.0>", ", z", ()),
        ("", ", z", ("residual",)),
    ],
)
def test_gemm(tmp_path: Path, attributes: str, addend: str, words: tuple[str, ...]):
    text = f"(float[n,24] x, float[n,16] z) => (float[n,16] y) {{ y = Gemm {attributes} (x, w{addend}) }}"
    weight = sparse(16, 24) if "transB" in attributes else sparse(24, 16)
    assert fused(tmp_path, text, w=weight, row=normal(1, 16)) == (["SparseLinear"], words)


def test_gemm_with_what_follows(tmp_path: Path):
    text = "(float[n,24] x) => (float[n,16] y) { h = Gemm(x, w, b) i = BatchNormalization(h, g, s, b, v1) y = Relu(i) }"
    assert fused(tmp_path, text, v1=np.abs(normal(16)) + 1) == (
        ["SparseLinear"],
        ("bias", "BatchNormalization", "relu"),
    )


@pytest.mark.parametrize(
    ("text", "left", "words"),
    [
        # A consumer too many.
        (HEAD + "{ h = MatMul(x, w) v0 = Add(h, b) y = Mul(v0, h) }", ["Add", "Mul"], ()),
        (HEAD + "{" + BIAS + "a = Relu(v0) y = Add(a, v0) }", ["Relu", "Add"], ("bias",)),
        (HEAD + "{ h = MatMul(x, w) y = Add(h, h) }", ["Add"], ()),
        # An output of the graph.
        ("(float[n,5,24] x) => (float[n,5,16] y, float[n,5,16] v0) {" + BIAS + "y = Relu(v0) }", ["Relu"], ("bias",)),
        (
            "(float[n,5,24] x) => (float[n,5,16] y, float[n,5,16] a) {" + BIAS + GELU["torch"] + "}",
            ["Div", "Erf", "Add", "Mul", "Mul"],
            ("bias",),
        ),
        # A bias along another axis, a constant that is no vector, one that is computed.
        (HEAD + "{ h = MatMul(x, w) y = Add(h, five) }", ["Add"], ()),
        (HEAD + "{ h = MatMul(x, w) y = Add(h, position) }", ["Add"], ()),
        ("(float[n,5,24] x, float[16] z) => (float[n,5,16] y) { h = MatMul(x, w) y = Add(h, z) }", ["Add"], ()),
        # A residual that is broadcast, along the batch too: equal at batch 1.
        ("(float[n,5,24] x, float[1,5,16] z) => (float[n,5,16] y) { h = MatMul(x, w) y = Add(h, z) }", ["Add"], ()),
        # A scale after the residual, and one along another axis.
        (
            "(float[n,5,24] x, float[n,5,16] z) => (float[n,5,16] y) "
            "{ h = MatMul(x, w) r = Add(h, z) y = Mul(r, half) }",
            ["Mul"],
            ("residual",),
        ),
        (HEAD + "{ h = MatMul(x, w) y = Mul(h, five) }", ["Mul"], ()),
        # Two residuals: the operator adds one.
        (
            "(float[n,5,24] x, float[n,5,16] z, float[n,5,16] u) => (float[n,5,16] y) "
            "{ h = MatMul(x, w) r = Add(h, z) y = Add(r, u) }",
            ["Add"],
            ("residual",),
        ),
        # A constant after the activation, which comes last.
        (HEAD + "{" + BIAS + "a = Relu(v0) y = Add(a, s) }", ["Add"], ("bias", "relu")),
        # Not GELU: another factor, another constant; not SiLU: sigmoid(2 v).
        (
            HEAD + "{" + BIAS + "d = Div(v0, root2) e = Erf(d) a = Add(e, one) m = Mul(v0, a) y = Mul(m, two) }",
            ["Div", "Erf", "Add", "Mul", "Mul"],
            ("bias",),
        ),
        (
            HEAD + "{" + BIAS + "d = Div(v0, two) e = Erf(d) a = Add(e, one) m = Mul(v0, a) y = Mul(m, half) }",
            ["Div", "Erf", "Add", "Mul", "Mul"],
            ("bias",),
        ),
        (HEAD + "{" + BIAS + "d = Mul(v0, two) e = Sigmoid(d) y = Mul(v0, e) }", ["Mul", "Sigmoid", "Mul"], ("bias",)),
        # Dropout that may drop, and one whose mask is asked for.
        (
            HEAD + "{" + BIAS + "t = Not(yes) l = Dropout(v0, half, t) y = Relu(l) }",
            ["Not", "Dropout", "Relu"],
            ("bias",),
        ),
        (
            "(float[n,5,24] x) => (float[n,5,16] y, bool[n,5,16] m) {" + BIAS + "l, m = Dropout(v0) y = Relu(l) }",
            ["Dropout", "Relu"],
            ("bias",),
        ),
        # Other bounds, one bound, another slope.
        (HEAD + "{" + BIAS + "y = Clip(v0, zero, three) }", ["Clip"], ("bias",)),
        (HEAD + "{" + BIAS + "y = Clip(v0, zero) }", ["Clip"], ("bias",)),
        (HEAD + "{" + BIAS + "e = HardSigmoid(v0) y = Mul(v0, e) }", ["HardSigmoid", "Mul"], ("bias",)),
        # LayerNormalization over other axes, or whose mean is asked for.
        (HEAD + "{" + BIAS + "y = LayerNormalization <axis = 1> (v0, position) }", ["LayerNormalization"], ("bias",)),
        (
            "(float[n,5,24] x) => (float[n,5,16] y, float[n,5,1] mu) {" + BIAS + "y, mu = LayerNormalization(v0, g) }",
            ["LayerNormalization"],
            ("bias",),
        ),
        # The same by hand over the middle axis.
        (
            HEAD + "{" + BIAS + NORM["pow"].replace("r,", "v0,").replace("last", "middle") + "}",
            ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"],
            ("bias",),
        ),
    ],
)
def test_near_misses_stay(tmp_path: Path, text: str, left: list[str], words: tuple[str, ...]):
    found = fused(tmp_path, text, middle=np.array([1]))
    assert found == (["SparseLinear", *left], words)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[n,24] x, float[24,16] z) => (float[n,16] y) { y = MatMul(x, z) }", "it multiplies two activations"),
        ("(float[n,5,24] x) => (float[n,5,16] y) { y = MatMul(x, stack) }", "its weight has 3 axes, not 2"),
        ("(float[24] x) => (float[16] y) { y = MatMul(x, w) }", "its input is a vector"),
        ("(float[24,3] x) => (float[16,3] y) { y = MatMul(t, x) }", "its weight stands on the left, and not before"),
        ("(float[24,3] x) => (float[3,16] y) { y = Gemm <transA = 1> (x, w) }", "its A is transposed"),
        ("(float[n,24] x) => (float[n,16] y) { y = Gemm(x, w, column) }", r"its C, of shape \[1, 1, 16\], is no bias"),
        ("(float[n,24] x) => (float[n,16] y) { y = MatMul(x, little) }", r"sparsity .*% is below 60.0%"),
    ],
)
def test_what_is_left_says_why(tmp_path: Path, text: str, reason: str):
    if "column" in text:
        text = text.replace("column", "wide").replace("[n,24]", "[2,24]").replace("[n,16]", "[2,16]")
        reason = r"its C, of shape \[2, 16\], is no bias"
    more = {"t": sparse(16, 24), "stack": sparse(1, 24, 16), "little": sparse(24, 16, sparsity=0.5)}
    stored = {**STORED, **more, "wide": normal(2, 16)}
    used = {
        name: array
        for name, array in stored.items()
        if f" {name})" in text or f"({name}," in text or f" {name}," in text
    }
    model, plan = rewritten(graph(tmp_path / "g.onnx", text, used))
    (row,) = plan.rows
    assert not row.replaced
    assert re.match(reason, row.reason), row.reason
    assert "sparsify" not in {entry.domain for entry in model.opset_import}
    assert plan.summary.startswith("none of 1 layers replaced")


def test_a_weight_before_a_stack_of_matrices_is_a_convolution_of_width_one(tmp_path: Path):
    text = "(float[n,24,7] x) => (float[n,16,7] y) { h = MatMul(t, x) i = Add(h, rows) y = Relu(i) }"
    found = graph(tmp_path / "g.onnx", text, {"t": sparse(16, 24), "rows": normal(16, 1)})
    model, plan = rewritten(found)
    assert operators(model) == ["SparseConv"]
    assert plan.rows[0].fused == ("bias", "relu")
