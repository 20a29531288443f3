"""Attention as exporters write it, near misses that must stay as they are, and what the plan says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import graph, normal, number, operators, rewritten, sparse
from sparsify.recipe.spec import SparseSpec
from sparsify_export.onnx_check import inputs_of, load_graph
from sparsify_export.sparse.observed import made_up_feeds
from sparsify_export.sparse.operators import damage
from sparsify_export.sparse.passes import sparsify

HEADS, DEPTH, TOKENS = 3, 4, 7
HEAD = "(float[n,7,12] x, float[n,7,12] c) => (float[n,7,12] y) "
STORED = {
    "split": np.array([0, 0, 3, 4]),
    "merge": np.array([0, 0, 12]),
    "side": np.array([0, 7, 12]),
    "stack": np.array([-1, 7, 4]),
    "unstack": np.array([-1, 3, 4, 7]),
    "two": np.array([2]),
    "middle": np.array([1, 2]),
    "long": np.array([2**31]),
    "minus": np.array([-1]),
    "root": number(np.sqrt(DEPTH)),
    "scale": number(DEPTH**-0.5),
    "half": number(DEPTH**-0.25),
    "unit": number(1.0),
    "keys": normal(7, seed=1),
    "square": normal(7, 7, seed=2),
    "queries": normal(7, 1, seed=3),
    "cross": np.where(normal(1, 1, 7, 7, seed=4) > 1, -np.inf, 0).astype(np.float32),
    "hidden": np.where(np.arange(49).reshape(7, 7) < 14, -np.inf, 0).astype(np.float32),
    "nothing": number(0.0),
    "large": normal(2, 3, 7, 7, seed=5),
    "turned": normal(1, 3, 4, 7, seed=6),
}
Q = "q0 = Reshape(x, split) q = Transpose <perm = [0, 2, 1, 3]> (q0) "
K = "k0 = Reshape(c, split) k = Transpose <perm = [0, 2, 3, 1]> (k0) "
V = "v0 = Reshape(c, split) v = Transpose <perm = [0, 2, 1, 3]> (v0) "
SCORES = "p = MatMul(q, k) s = Div(p, root) "
MIXED = "w = Softmax <axis = -1> (s) m = MatMul(w, v) "
MERGED = "t = Transpose <perm = [0, 2, 1, 3]> (m) y = Reshape(t, merge)"
# What torch's exporter makes of scaled_dot_product_attention: keys turned as a stack of matrices.
TURNED = (
    "k0 = Reshape(c, split) k1 = Transpose <perm = [0, 2, 1, 3]> (k0) k2 = Reshape(k1, stack) "
    "k3 = Transpose <perm = [0, 2, 1]> (k2) k4 = Reshape(k3, unstack) k = Mul(k4, half) "
)
# And its older one: half of the scale computed from the size of the last axis, for each factor.
SIZE = (
    "z0 = Shape(q1) z1 = Slice(z0, minus, long) z2 = Cast <to = 1> (z1) z3 = Sqrt(z2) z4 = Div(unit, z3) z5 = Sqrt(z4) "
    "z6 = Sqrt(z4) "
)
WAYS = {
    "BERT": Q + K + V + SCORES + MIXED + MERGED,
    "a factor": Q + K + V + "p = MatMul(q, k) s = Mul(scale, p) " + MIXED + MERGED,
    "Casts": Q
    + K
    + V
    + SCORES
    + "w0 = Softmax <axis = -1> (s) w1 = Cast <to = 1> (w0) w = Cast <to = 1> (w1) m = MatMul(w, v) "
    + MERGED,
    "torch's, of queries without keys": Q
    + K
    + V
    + "p = MatMul(q, k) r = Div(p, root) s = Add(r, hidden) w0 = Softmax <axis = -1> (s) "
    + "w1 = IsNaN(w0) w = Where(w1, nothing, w0) m = MatMul(w, v) "
    + MERGED,
    "no factor": Q + K + V + "s = MatMul(q, k) " + MIXED + MERGED,
    "queries divided": Q + K + V + "q1 = Div(q, root) s = MatMul(q1, k) " + MIXED + MERGED,
    "before the heads": "x1 = Mul(x, scale) " + Q.replace("(x,", "(x1,") + K + V + "s = MatMul(q, k) " + MIXED + MERGED,
    "torch": Q.replace(" q =", " q1 =") + "q = Mul(q1, half) " + TURNED + V + "s = MatMul(q, k) " + MIXED + MERGED,
    "torch, with sizes": Q.replace(" q =", " q1 =")
    + SIZE
    + "q = Mul(q1, z5) "
    + K.replace(" k =", " k1 =")
    + "k = Mul(k1, z6) "
    + V
    + "s = MatMul(q, k) "
    + MIXED
    + MERGED,
    "a mask a key": Q + K + V + "p = MatMul(q, k) r = Div(p, root) s = Add(r, keys) " + MIXED + MERGED,
    "a mask a query": Q + K + V + "p = MatMul(q, k) r = Div(p, root) s = Add(square, r) " + MIXED + MERGED,
    "a causal mask": Q + K + V + "p = MatMul(q, k) r = Div(p, root) s = Add(r, cross) " + MIXED + MERGED,
    "a computed mask": Q
    + K
    + V
    + "z = ReduceMax <keepdims = 0> (c, two) u = Unsqueeze(z, middle) "
    + "p = MatMul(q, k) r = Div(p, root) s = Add(r, u) "
    + MIXED
    + MERGED,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_it_becomes_one_operator(tmp_path: Path, way: str):
    new, plan = rewritten(graph(tmp_path / "g.onnx", HEAD + "{" + WAYS[way] + "}", STORED), min_sparsity=0.5)
    assert [one for one in operators(new) if one in ("Attention", "MatMul", "Softmax", "Transpose")] == ["Attention"]
    (row,) = plan.rows
    assert (row.operator, row.shape, row.positions, row.replaced) == ("Attention", (HEADS, DEPTH), TOKENS, True)
    assert plan.summary.endswith("1 of 1 attentions one operator")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The heads stay apart where they are not merged, or not as they were split.
        (Q + K + V + SCORES + MIXED + "y = ReduceSum <keepdims = 0> (m, one)", ["Attention", "ReduceSum"]),
        (Q + K + V + SCORES + MIXED + "y = Reshape(m, side)", ["Attention", "Reshape"]),
        (Q + K + V + SCORES + MIXED + MERGED + " z = Relu(m)", ["Attention", "Transpose", "Reshape", "Relu"]),
        # They are taken apart where they come apart.
        ("q = Relu(a) k1 = Relu(b) k = Transpose <perm = [0, 1, 3, 2]> (k1) v = Relu(b) " + SCORES + MIXED
         + "y = Identity(m)", ["Relu", "Relu", "Relu", "Attention"]),
    ],
    ids=["summed", "merged otherwise", "seen apart", "given apart"],
)  # fmt: skip
def test_heads_that_are_apart(tmp_path: Path, text: str, expected: list[str]):
    given = "float[n,3,7,4] a, float[n,3,7,4] b" if "(a)" in text else "float[n,7,12] x, float[n,7,12] c"
    shape = "float[n,7,4] y" if "ReduceSum" in text else "float[n,3,7,4] y" if "(a)" in text else "float[n,7,12] y"
    made = f"({given}) => ({shape}{', float[n,3,7,4] z' if ' z = ' in text else ''}) "
    stored = STORED | {"one": np.array([1])}
    new, _ = rewritten(graph(tmp_path / "g.onnx", made + "{" + text + "}", stored), min_sparsity=0.5)
    assert [one for one in operators(new) if one != "Identity"] == expected


NEAR_MISSES = {
    "probabilities are an output": (Q + K + V + SCORES + MIXED + MERGED, ", float[n,3,7,7] w"),
    "scores are an output": (Q + K + V + SCORES + MIXED + MERGED, ", float[n,3,7,7] p"),
    "over queries": (Q + K + V + SCORES + MIXED.replace("-1", "2") + MERGED, ""),
    "a mask without keys": (Q + K + V + "p = MatMul(q, k) r = Div(p, root) s = Add(r, queries) " + MIXED + MERGED, ""),
    "NaN replaced by one": (
        Q + K + V + SCORES + "w0 = Softmax <axis = -1> (s) w1 = IsNaN(w0) w = Where(w1, unit, w0) m = MatMul(w, v) "
        + MERGED,
        "",
    ),
    "NaN kept": (
        Q + K + V + SCORES + "w0 = Softmax <axis = -1> (s) w1 = IsNaN(w0) w = Where(w1, w0, nothing) m = MatMul(w, v) "
        + MERGED,
        "",
    ),
    "rounded to half": (
        Q + K + V + SCORES + "w0 = Softmax <axis = -1> (s) w1 = Cast <to = 10> (w0) w = Cast <to = 1> (w1) "
        "m = MatMul(w, v) " + MERGED,
        "",
    ),
    "a factor after the mask": (Q + K + V + "p = MatMul(q, k) r = Add(p, keys) s = Div(r, root) " + MIXED + MERGED, ""),
    "a mask that enlarges": (
        Q.replace("(x,", "(x1,").replace("split", "single") + K.replace("(c,", "(x1,").replace("split", "single")
        + V.replace("(c,", "(x1,").replace("split", "single")
        + "p = MatMul(q, k) r = Div(p, root) s = Add(r, large) " + MIXED
        + "t = Transpose <perm = [0, 2, 1, 3]> (m) t1 = ReduceSum <keepdims = 1> (t, zero) y0 = Reshape(t1, merge) "
        "y = Add(y0, x)",
        "",
    ),
    "a factor of the tokens": (
        Q + K + V + "z0 = Shape(x) z1 = Slice(z0, first, second) z2 = Cast <to = 1> (z1) z = Sqrt(z2) "
        "p = MatMul(q, k) s = Div(p, z) " + MIXED + MERGED,
        "",
    ),
    "a factor that is computed": (
        Q + K + V + "z = ReduceMax <keepdims = 0> (c) p = MatMul(q, k) s = Div(p, z) " + MIXED + MERGED, ""
    ),
    "constant keys": (Q + V + "p = MatMul(q, turned) s = Div(p, root) " + MIXED + MERGED, ""),
    "keys not turned": (
        Q + K.replace("0, 2, 3, 1", "0, 2, 1, 3") + V + "k1 = Reshape(k, wrong) p = MatMul(q, k1) s = Div(p, root) "
        + MIXED + MERGED,
        "",
    ),
    "weighed from the left": (
        Q + K + V + SCORES + "w = Softmax <axis = -1> (s) w1 = Transpose <perm = [0, 1, 3, 2]> (w) m = MatMul(w1, v) "
        + MERGED,
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_stay_as_they_are(tmp_path: Path, miss: str):
    text, more = NEAR_MISSES[miss]
    stored = STORED | {
        "single": np.array([1, 7, 3, 4]),
        "wrong": np.array([0, 0, 4, 7]),
        "zero": np.array([0]),
        "first": np.array([1]),
        "second": np.array([2]),
    }
    head = HEAD.replace("y)", "y" + more + ")")
    if "single" in text:
        text = "x1 = ReduceMean <keepdims = 1> (x, zero) " + text
    new, plan = rewritten(graph(tmp_path / "g.onnx", head + "{" + text + "}", stored), min_sparsity=0.5)
    assert "Attention" not in operators(new)
    assert {row.replaced for row in plan.rows} <= {False}


@pytest.mark.parametrize(
    ("softmax", "opset", "fused"),
    [("Softmax", 11, False), ("Softmax <axis = 3>", 11, True), ("Softmax", 13, True)],
    ids=["older, of all after the first", "older, of the last", "of the last"],
)
def test_the_axis_that_is_not_given_is_the_operator_sets(tmp_path: Path, softmax: str, opset: int, fused: bool):
    text = Q + K + V + SCORES + f"w = {softmax} (s) m = MatMul(w, v) " + MERGED
    source = graph(tmp_path / "g.onnx", HEAD + "{" + text + "}", STORED, opset=opset)
    feeds = made_up_feeds(source, inputs_of(source), {}, seed=0)  # for ONNX Runtime: onnx's reference has no older one
    done = sparsify(source, tmp_path / "s.onnx", options=SparseSpec(min_sparsity=0.5), feeds=feeds, inputs="made up")
    assert any(row.replaced for row in done.plan.rows) is fused


@pytest.mark.parametrize("split", [(-1, 7, 3, 4), (0, 0, 3, 4), (0, -1, 3, 4)])
@pytest.mark.parametrize("merge", [(-1, 7, 12), (0, 0, 12), (0, -1, 12)])
def test_one_window_is_not_taken_for_the_whole_sequence(tmp_path: Path, split: tuple[int, ...], merge: tuple[int, ...]):
    head = "(float[n,t,12] x, float[n,t,12] c) => (float[n,s,12] y) "
    stored = STORED | {"split": np.array(split), "merge": np.array(merge)}
    source = graph(tmp_path / "g.onnx", head + "{" + Q + K + V + SCORES + MIXED + MERGED + "}", stored)
    new, _ = rewritten(source, shapes={"x": (1, 7, 12), "c": (1, 7, 12)}, min_sparsity=0.5)
    if 7 in split:
        assert "Attention" not in operators(new)
    else:
        assert operators(new) == ["Attention", *(["Transpose", "Reshape"] if 7 in merge else [])]


@pytest.mark.parametrize("window", [7, -1])
def test_one_window_of_a_number_that_is_computed(tmp_path: Path, window: int):
    """As of `view(batch * tokens // 7, 7, heads, -1)`, and of `view(batch, -1, heads, features)`."""
    head = "(float[n,t,12] x, float[n,t,12] c) => (float[n,s,12] y) "
    numbers = "z0 = Shape(x) z1 = Slice(z0, zero, two) z2 = ReduceProd <keepdims = 1> (z1) z3 = Div(z2, seven) "
    if window < 0:
        numbers = "z0 = Shape(x) z3 = Slice(z0, zero, one) "
    numbers += "split = Concat <axis = 0> (z3, rest) merge = Concat <axis = 0> (z3, width) "
    more = {"seven": [7], "rest": [window, 3, 4], "width": [window, 12], "zero": [0], "one": [1]}
    stored = {name: array for name, array in STORED.items() if name not in ("split", "merge")}
    stored |= {name: np.array(array) for name, array in more.items()}
    source = graph(tmp_path / "g.onnx", head + "{" + numbers + Q + K + V + SCORES + MIXED + MERGED + "}", stored)
    new, _ = rewritten(source, shapes={"x": (1, 7, 12), "c": (1, 7, 12)}, min_sparsity=0.5)
    assert ("Attention" in operators(new)) is (window < 0)


@pytest.mark.parametrize(
    "between",
    ["a1 = Identity(a0)", "a2 = Add(a0, bias) a1 = Mul(a2, scale)"],
    ids=["Identity", "bias and factor"],
)
def test_what_a_sparse_layer_takes_in_is_not_read_by_an_attention(tmp_path: Path, between: str):
    """As BART, OPT and Whisper scale their queries."""
    text = f"a0 = MatMul(x, wq) {between} " + Q.replace("(x,", "(a1,") + K + V + SCORES + MIXED + MERGED
    stored = STORED | {"wq": sparse(12, 12), "bias": normal(12)}
    new, _ = rewritten(graph(tmp_path / "g.onnx", HEAD + "{" + text + "}", stored), min_sparsity=0.5)
    assert operators(new) == ["SparseLinear", "Attention"]


def test_a_mask_that_a_sparse_layer_adds_to_the_scores(tmp_path: Path):
    text = Q + K + V + "p = MatMul(q, k) r = Div(p, root) u = MatMul(z, wz) s = Add(r, u) " + MIXED + MERGED
    head = HEAD.replace(" c)", " c, float[n,3,7,16] z)")
    source = graph(tmp_path / "g.onnx", head + "{" + text + "}", STORED | {"wz": sparse(16, 7)})
    new, _ = rewritten(source, min_sparsity=0.5)
    assert "SparseLinear" in operators(new)
    assert "Attention" not in operators(new)


LAYERS = "(float[n,7,24] x) => (float[n,7,24] y) {{ {} }}".format(
    "a = MatMul(x, wq) b = MatMul(x, wk) d = MatMul(x, wv) q0 = Reshape(a, split) k0 = Reshape(b, split) "
    "v0 = Reshape(d, split) q = Transpose <perm = [0, 2, 1, 3]> (q0) k = Transpose <perm = [0, 2, 3, 1]> (k0) "
    "v = Transpose <perm = [0, 2, 1, 3]> (v0) " + SCORES + MIXED + "t = Transpose <perm = [0, 2, 1, 3]> (m) "
    "e = Reshape(t, merge) y = MatMul(e, wo)"
)


def layers(path: Path) -> Path:
    stored = {name: sparse(24, 24, seed=seed) for seed, name in enumerate(("wq", "wk", "wv", "wo"))}
    others = {"split": np.array([0, 0, 3, 8]), "merge": np.array([0, 0, 24]), "root": number(8**0.5)}
    return graph(path, LAYERS, stored | others)


@pytest.mark.parametrize(("precision", "inside"), [("f32", "f32"), ("f16", "f32"), ("bf16", "f32"), ("i8", "bf16")])
def test_between_sparse_layers_it_runs_in_the_precision_that_int8_allows(tmp_path: Path, precision: str, inside: str):
    source, out = layers(tmp_path / "g.onnx"), tmp_path / "s.onnx"
    options = SparseSpec(precision=precision, min_sparsity=0.5)
    feeds = made_up_feeds(source, inputs_of(source), {}, seed=0)
    done = sparsify(source, out, options=options, feeds=feeds, inputs="made up")
    written = load_graph(out)
    assert operators(written) == [*["SparseLinear"] * 3, "Attention", "SparseLinear"]
    assert [row.operator for row in done.plan.rows] == [*["MatMul"] * 3, "Attention", "MatMul"]
    row = done.plan.rows[3]
    assert row.precision == inside
    assert row.kernel.startswith("attention-")
    assert not damage(written.graph)
    for output in done.parity.outputs:
        assert (output.rms if precision == "i8" else output.largest) <= done.parity.tolerance


def test_by_expected_times_it_is_timed_as_it_is_and_as_one(tmp_path: Path):
    source = layers(tmp_path / "g.onnx")
    feeds = made_up_feeds(source, inputs_of(source), {}, seed=0)
    done = sparsify(source, tmp_path / "s.onnx", options=SparseSpec(), feeds=feeds, inputs="made up")
    (row,) = [row for row in done.plan.rows if row.operator == "Attention"]
    assert row.dense_us is not None and row.sparse_us is not None
    assert row.replaced is (row.sparse_us + 0.5 < row.dense_us)
    assert row.reason == f"{row.sparse_us:.4g} us as one operator, {row.dense_us:.4g} us as it is"


def test_a_factor_computed_from_sizes_elsewhere_is_a_number_when_it_is_timed(tmp_path: Path):
    """Swin's, as torch's older exporter writes it: followed to where it came from, it led out of what is timed."""
    text = (
        "a = Relu(x) r = Reshape(x, split) "
        + Q.replace("(x,", "(a,").replace(" q =", " q1 =")
        + SIZE.replace("(q1)", "(r)")
        + "q = Mul(q1, z5) "
        + K.replace(" k =", " k1 =")
        + "k = Mul(k1, z6) "
        + V
        + "s = MatMul(q, k) "
        + MIXED
        + MERGED
    )
    source = graph(tmp_path / "g.onnx", HEAD + "{" + text + "}", STORED)
    feeds = made_up_feeds(source, inputs_of(source), {}, seed=0)
    done = sparsify(source, tmp_path / "s.onnx", options=SparseSpec(), feeds=feeds, inputs="made up")
    (row,) = done.plan.rows
    assert (row.operator, row.dense_us is not None) == ("Attention", True)
