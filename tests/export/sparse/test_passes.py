"""The whole pass in ONNX Runtime with the operators' library: what is written runs, is small, and is as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from sparsify_export.sparse.available import why_not

if (missing := why_not()) is not None:
    pytest.skip(missing, allow_module_level=True)

from rewritten_graphs import graph, normal, number, operators, sparse
from sparsify.errors import CorruptError, UsageError
from sparsify.recipe.spec import SparseSpec
from sparsify_export.onnx_check import inputs_of, load_graph
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse import parity, weights_file
from sparsify_export.sparse.observed import made_up_feeds
from sparsify_export.sparse.passes import Sparsified, sparsify
from sparsify_export.sparse.plan import stored_plan
from sparsify_export.sparse.trial import operators_refusal

ENCODER = """(float[n,6,64] x) => (float[n,6,64] y) {
    h = MatMul(x, w1)
    v = Add(h, b1)
    d = Div(v, root2)
    e = Erf(d)
    a = Add(e, one)
    m = Mul(v, a)
    g = Mul(m, half)
    i = MatMul(g, w2)
    j = Add(b2, i)
    r = Add(j, x)
    y = LayerNormalization(r, s, t)
}"""
IMAGES = """(float[n,8,12,12] x) => (float[n,16] y) {
    h = Conv <pads = [1, 1, 1, 1]> (x, c1, b1)
    i = Relu(h)
    j = Conv(i, c2)
    k = BatchNormalization(j, s, t, m, v)
    r = Add(k, x)
    l = Relu(r)
    p = GlobalAveragePool(l)
    f = Flatten(p)
    y = Gemm <transB = 1> (f, w, b2)
}"""


def encoder(path: Path) -> Path:
    scalars = {"root2": number(np.sqrt(2)), "one": number(1), "half": number(0.5)}
    weights = {"w1": sparse(64, 256), "b1": normal(256), "w2": sparse(256, 64, seed=1), "b2": normal(64)}
    return graph(path, ENCODER, {**scalars, **weights, "s": normal(64, seed=2), "t": normal(64, seed=3)})


def images(path: Path) -> Path:
    weights = {"c1": sparse(32, 8, 3, 3), "b1": normal(32), "c2": sparse(8, 32, 1, 1, sparsity=0.7)}
    norm = {"s": normal(8), "t": normal(8), "m": normal(8), "v": np.abs(normal(8)) + 1}
    return graph(path, IMAGES, {**weights, **norm, "w": sparse(16, 8, sparsity=0.8), "b2": normal(16)})


def run(source: Path, out: Path, **options: object) -> Sparsified:
    feeds = made_up_feeds(source, inputs_of(source), {}, seed=0)
    return sparsify(source, out, options=SparseSpec(**options), feeds=feeds, inputs="made up")


def test_the_operators_answer():
    assert operators_refusal() == ""


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16", "i8"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (encoder, ["SparseLinear", "SparseLinear"]),
        (images, ["SparseConv", "SparseConv", "GlobalAveragePool", "Flatten", "SparseLinear"]),
    ],
)
def test_a_graph_is_rewritten_and_agrees(tmp_path: Path, make, expected: list[str], precision: str):
    source, out = make(tmp_path / "g.onnx"), tmp_path / "s.onnx"
    done = run(source, out, precision=precision, min_sparsity=0.5)
    assert operators(load_graph(out)) == expected
    assert done.plan.precision == precision
    for output in done.parity.outputs:
        assert (output.largest if precision == "f32" else output.rms) <= done.parity.tolerance
    assert done.bytes == out.stat().st_size < done.bytes_before == source.stat().st_size
    assert stored_plan(load_graph(out).metadata_props) == done.plan.to_json()


def test_what_was_written_runs_for_any_batch_and_says_what_it_uses(tmp_path: Path):
    source, out = encoder(tmp_path / "g.onnx"), tmp_path / "s.onnx"
    run(source, out, min_sparsity=0.5)
    feed = {"x": normal(7, 6, 64, seed=9)}
    with OnnxRuntime(source) as dense, OnnxRuntime(out) as other:
        np.testing.assert_allclose(other.infer(feed)["y"], dense.infer(feed)["y"], atol=1e-4)
        assert other.describe()["sparse operators"]


def test_a_graph_that_runs_on_one_batch_alone_though_it_leaves_it_open(tmp_path: Path):
    text = "(float[n,4,24] x) => (float[n,m] y) { f = Reshape(x, shape) h = MatMul(f, w) y = Relu(h) }"
    source = graph(tmp_path / "g.onnx", text, {"w": sparse(24, 16), "shape": np.array([4, 24])})
    done = run(source, tmp_path / "s.onnx", min_sparsity=0.5)
    assert operators(load_graph(tmp_path / "s.onnx")) == ["Reshape", "SparseLinear"]
    assert done.parity.inputs.startswith("made up, of fewer sizes than the graph says it takes")


def test_a_graph_planned_for_one_token_runs_on_more(tmp_path: Path):
    """What is broadcast along them has the product's shape when there is one: it is no residual all the same."""
    text = "(float[n,s,24] x, float[n,1,16] z) => (float[n,s,16] y) { h = MatMul(x, w) y = Add(h, z) }"
    source, out = graph(tmp_path / "g.onnx", text, {"w": sparse(24, 16)}), tmp_path / "s.onnx"
    feeds = made_up_feeds(source, inputs_of(source), {"x": (1, 1, 24)}, seed=0)
    done = sparsify(source, out, options=SparseSpec(min_sparsity=0.5), feeds=feeds, inputs="made up")
    assert (done.plan.rows[0].positions, done.plan.rows[0].fused) == (1, ())
    feed = {"x": normal(2, 7, 24), "z": normal(2, 1, 16)}
    with OnnxRuntime(source) as dense, OnnxRuntime(out) as other:
        np.testing.assert_allclose(other.infer(feed)["y"], dense.infer(feed)["y"], atol=1e-5)


def test_where_weights_alone_are_quantised_the_floats_they_stand_for_are_the_measure(tmp_path: Path):
    """ONNX Runtime itself rounds the activations of such a product: it is off by more than the tolerance."""
    text = """(float[n,512] x) => (float[n,64] y) {
        v = DequantizeLinear <axis = 1> (w, steps, zeros)
        y = MatMul(x, v)
    }"""
    integers = np.rint(sparse(512, 64) * 40).clip(-127, 127).astype(np.int8)
    stored = {"w": integers, "steps": np.full(64, 0.02, np.float32), "zeros": np.zeros(64, np.int8)}
    source = graph(tmp_path / "g.onnx", text, stored)
    done = run(source, tmp_path / "s.onnx", min_sparsity=0.5)
    assert operators(load_graph(tmp_path / "s.onnx")) == ["SparseLinear"]
    assert done.parity.outputs[0].largest < 1e-6


def test_a_graph_that_onnx_runtime_refuses_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    text = '(float[n,8,6,6] x) => (float[n,4,4,4] y) { y = Conv <auto_pad = "VALID", pads = [0, 0, 0, 0]> (x, w) }'
    source = graph(tmp_path / "g.onnx", text, {"w": sparse(4, 8, 3, 3)})
    with pytest.raises(CorruptError, match=r"g\.onnx: ONNX Runtime cannot load it"):
        run(source, tmp_path / "s.onnx")
    assert not capfd.readouterr().err, "what ONNX Runtime logs is in the error already"


def test_the_plan_by_expected_times_names_a_kernel_for_what_it_replaces(tmp_path: Path):
    done = run(encoder(tmp_path / "g.onnx"), tmp_path / "s.onnx")
    for row in done.plan.rows:
        assert row.dense_us is not None and row.sparse_us is not None
        assert row.sparse_us < row.dense_us or not row.replaced
        assert bool(row.kernel) is row.replaced
    assert done.plan.rule == "those expected to be faster sparse than dense are"


def test_convolutions_of_other_types_do_not_stand_in_the_way(tmp_path: Path):
    """Their layout is nobody's business: the sparse layers beside them are still chosen."""
    text = """(float[n,16,14,14] x) => (float[n,16,14,14] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        h = Cast <to = 10> (a)
        b = Conv(h, half)
        y = Cast <to = 1> (b)
    }"""
    stored = {"w": sparse(16, 16, 3, 3, sparsity=0.99), "half": normal(16, 16, 1, 1).astype(np.float16)}
    done = run(graph(tmp_path / "g.onnx", text, stored), tmp_path / "s.onnx")
    assert [row.reason for row in done.plan.rows][1] == "it computes in float16, not in float32"


@pytest.mark.parametrize(("precision", "share"), [("f32", 0.135), ("f16", 0.085), ("bf16", 0.085), ("i8", 0.06)])
def test_at_nine_tenths_the_replaced_layers_take_this_share_of_their_dense_bytes(
    tmp_path: Path, precision: str, share: float
):
    weights = np.zeros(512 * 1024, np.float32)
    kept = np.random.default_rng(0).permutation(weights.size)[: weights.size // 10]
    weights[kept] = normal(len(kept))
    text = "(float[n,512] x) => (float[n,1024] y) { y = MatMul(x, w) }"
    source = graph(tmp_path / "g.onnx", text, {"w": weights.reshape(512, 1024)})
    done = run(source, tmp_path / "s.onnx", precision=precision, min_sparsity=0.5)
    (row,) = done.plan.replaced
    assert row.dense_bytes == 4 * 512 * 1024
    assert row.bytes <= share * row.dense_bytes
    assert (tmp_path / "s.onnx").stat().st_size <= row.bytes + 4096


def test_a_graph_whose_outputs_differ_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(parity.TOLERANCES, "i8", (1e-9, "nothing may differ"))
    with pytest.raises(CorruptError, match="it is not written"):
        run(encoder(tmp_path / "g.onnx"), tmp_path / "s.onnx", precision="i8", min_sparsity=0.5)
    assert not (tmp_path / "s.onnx").exists()


def test_a_graph_may_be_rewritten_in_place_and_weights_may_lie_beside_it(tmp_path: Path):
    source = encoder(tmp_path / "g.onnx")
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = source.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    done = run(source, source, min_sparsity=0.5)
    assert done.bytes_before == before
    assert operators(load_graph(source)) == ["SparseLinear", "SparseLinear"]
    (tmp_path / "weights.bin").unlink()
    with OnnxRuntime(source) as runtime:
        assert runtime.infer({"x": normal(1, 6, 64)})["y"].shape == (1, 6, 64)


def test_what_one_file_cannot_hold_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The limit, 2 GB, is lowered to less than the layer that stays dense."""
    text = "(float[n,64] x) => (float[n,256] y) { h = MatMul(x, w) i = Relu(h) y = MatMul(i, v) }"
    (tmp_path / "given").mkdir()
    source = graph(tmp_path / "given" / "g.onnx", text, {"w": sparse(64, 64), "v": normal(64, 256)})
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    feed = {"x": normal(3, 64)}
    with OnnxRuntime(source) as runtime:
        expected = runtime.infer(feed)["y"]
    monkeypatch.setattr(weights_file, "LARGEST", 64 * 256 * 4)
    out = tmp_path / "out" / "model.onnx"
    done = run(source, out, min_sparsity=0.5)
    shutil.rmtree(tmp_path / "given")
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "model.weights"]
    assert (out.parent / "model.weights").stat().st_size == 64 * 256 * 4
    assert done.bytes == sum(path.stat().st_size for path in out.parent.iterdir())
    assert operators(load_graph(out)) == ["SparseLinear", "MatMul"]
    with OnnxRuntime(out) as runtime:
        np.testing.assert_allclose(runtime.infer(feed)["y"], expected, atol=1e-4)


def test_more_packed_weights_than_one_file_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights_file, "LARGEST", 1000)
    with pytest.raises(UsageError, match="expected packed weights under 2 GB, which one file holds, got"):
        run(encoder(tmp_path / "g.onnx"), tmp_path / "s.onnx", min_sparsity=0.5)


def test_the_file_is_the_same_every_time(tmp_path: Path):
    source = images(tmp_path / "g.onnx")
    for name in ("a", "b"):
        run(source, tmp_path / name, min_sparsity=0.5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
