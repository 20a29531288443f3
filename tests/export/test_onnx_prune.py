from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from layer_graphs import normal, run, save_graph, tensors_of
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.recipe.pattern import Pattern
from sparsify_export.launch import Request, perform
from sparsify_export.onnx_check import load_graph, weight_zeros
from sparsify_export.onnx_prune import prune_onnx

UNSTRUCTURED = Pattern("unstructured")


def _mixed(path: Path) -> Path:
    """A Conv, an embedding beside it that is no weight, a MatMul used twice and a classifier of 6 inputs."""
    weights = {
        "conv": normal(8, 4, 3, 3), "tied": normal(8, 8, seed=1), "head": normal(8, 10, seed=2),
        "shift": normal(1, 8, seed=3), "odd": normal(10, 3, seed=4), "axes": np.array([2, 3]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["c"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["m"], keepdims=0),
        helper.make_node("Add", ["m", "shift"], ["a"], name="shift it"),
        helper.make_node("MatMul", ["a", "tied"], ["t"], name="once"),
        helper.make_node("MatMul", ["t", "tied"], ["u"], name="twice"),
        helper.make_node("MatMul", ["u", "head"], ["h"], name="head"),
        helper.make_node("MatMul", ["h", "odd"], ["logits"], name="odd"),
    ]
    return save_graph(path, nodes, {"image": ["batch", 4, 6, 6]}, {"logits": None}, weights)


def test_every_layer_is_told_of(tmp_path: Path):
    report = prune_onnx(_mixed(tmp_path / "d.onnx"), tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    rows = {row.name: row for row in report.rows}
    assert {name: row.achieved for name, row in rows.items() if not row.skipped} == {
        "conv": 0.5,
        "tied": 0.5,
        "head": 0.5,
    }
    assert rows["tied"].nodes == ("once", "twice")
    assert "no multiple of 4" in rows["odd"].skipped
    assert rows["shift"].skipped == "read by Add 'shift it', not by Conv, ConvTranspose, Gemm, MatMul"
    pruned = tensors_of(tmp_path / "p.onnx")
    zeros = sum(int((pruned[name] == 0).sum()) for name in ("conv", "tied", "head", "odd"))
    assert report.achieved == pytest.approx(zeros / (288 + 64 + 80 + 30))
    assert (report.asked, report.achieved_in_pruned) == (0.5, 0.5)


def test_json_has_every_figure_and_the_text_every_reason(tmp_path: Path):
    report = prune_onnx(_mixed(tmp_path / "d.onnx"), tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.5)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["sparsity"]["asked"] == 0.5
    assert document["sparsity"]["achieved"] == pytest.approx(0.5, abs=0.002)
    assert document["weights"] == 462
    assert [layer["name"] for layer in document["layers"]] == ["conv", "tied", "head", "odd", "shift"]
    assert {layer["asked"] for layer in document["layers"]} == {None}
    assert document["agreement"]["outputs"][0].keys() == {
        "name", "cosine", "cosine_lowest", "max_abs_difference", "argmax_agreement",
    }  # fmt: skip
    assert "not accuracy" in document["statement"]
    assert "speed is for bench to measure" in document["statement"]
    text = report.text()
    for part in ("tied: once, twice", "skipped: read by Add", "asked 50.0%", "same class", "not accuracy", "p.onnx"):
        assert part in text


def test_masks_of_many_layers_are_listed_shortly(tmp_path: Path):
    names = [f"a_rather_long_name_for_an_initializer_{index}" for index in range(60)]
    nodes = [helper.make_node("MatMul", [f"h{i}", name], [f"h{i + 1}"]) for i, name in enumerate(names)]
    weights = {name: normal(4, 4, seed=i) / 2 for i, name in enumerate(names)}
    path = save_graph(tmp_path / "d.onnx", nodes, {"h0": ["n", 4]}, {"h60": None}, weights)
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.5)
    lines = report.text().splitlines()
    assert "... and 20 more, all in the JSON" in lines
    assert lines[1].startswith("...")
    assert len(report.to_json()["layers"]) == 60


@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1", "1:4"])
def test_wanda_against_brute_force(pattern: str, tmp_path: Path):
    """Scores by NumPy; each output (or group) loses its lowest."""
    w = normal(16, 8)
    path = save_graph(
        tmp_path / "d.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 16]}, {"y": None}, {"w": w}
    )
    x = normal(40, 16, seed=1) * np.linspace(0.1, 4, 16, dtype=np.float32)
    np.savez(tmp_path / "c.npz", x=x)
    parsed = Pattern.parse(pattern)
    sparsity = None if parsed.kind == "nm" else 0.5
    report = prune_onnx(
        path, tmp_path / "p.onnx", pattern=parsed, sparsity=sparsity, criterion="wanda", calibration=tmp_path / "c.npz"
    )
    scores = np.abs(w.T) * np.sqrt((x.astype(np.float64) ** 2).sum(0))
    if pattern == "unstructured":
        expected = scores > np.sort(scores, axis=1)[:, [7]]
    elif pattern == "1:4":
        groups = scores.reshape(8, 4, 4)
        expected = (groups == groups.max(2, keepdims=True)).reshape(8, 16)
    else:
        blocks = scores.reshape(2, 4, 16).sum(1)
        expected = np.repeat(blocks > np.sort(blocks.reshape(-1))[15], 4, axis=0)
    np.testing.assert_array_equal(tensors_of(tmp_path / "p.onnx")["w"].T != 0, expected)
    assert (report.calibration, report.agreement.examples, report.agreement.inputs) == (40, 40, "calibration")


def test_wanda_leaves_out_a_stack_of_matrices_and_says_so(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "stack"], ["y"])]
    weights = {"w": normal(4, 4), "stack": normal(2, 4, 4)}
    path = save_graph(tmp_path / "d.onnx", nodes, {"x": ["n", 2, 3, 4]}, {"y": None}, weights)
    np.save(tmp_path / "c.npy", normal(5, 2, 3, 4))
    report = prune_onnx(
        path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"), criterion="wanda", calibration=tmp_path / "c.npy"
    )
    assert {row.name: row.skipped for row in report.rows} == {
        "w": "", "stack": "a stack of matrices, which Wanda does not score; magnitude does",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": UNSTRUCTURED}, "from 0 to below 1 with pattern unstructured, got none"),
        ({"pattern": UNSTRUCTURED, "sparsity": 1.0}, "got 1.0"),
        ({"pattern": Pattern.parse("2:4"), "sparsity": 0.6}, "expected 0.5 with pattern 2:4, got 0.6"),
        ({"pattern": Pattern("channel"), "sparsity": 0.5}, "pattern channel: expected unstructured"),
        ({"pattern": UNSTRUCTURED, "sparsity": 0.5, "criterion": "snip"}, "expected magnitude or wanda .* got 'snip'"),
        ({"pattern": UNSTRUCTURED, "sparsity": 0.5, "criterion": "wanda"}, "expected calibration data, got none"),
        ({"pattern": UNSTRUCTURED, "sparsity": 0.5, "overrides": {"nope": 0.1}}, "'nope' matches no"),
        ({"pattern": UNSTRUCTURED, "sparsity": 0.5, "allocation": "searched"}, "uniform, erk .* 'searched'"),
        ({"pattern": Pattern.parse("3:7")}, "every one left dense: .* no multiple of 7"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, Any], message: str, tmp_path: Path):
    source = _mixed(tmp_path / "d.onnx")
    with pytest.raises(UsageError, match=message):
        prune_onnx(source, tmp_path / "p.onnx", **options)
    assert not (tmp_path / "p.onnx").exists()


def test_wanda_lets_no_layers_compete(tmp_path: Path):
    source = _mixed(tmp_path / "d.onnx")
    np.save(tmp_path / "c.npy", normal(8, 4, 6, 6))
    options: dict[str, Any] = {"criterion": "wanda", "calibration": tmp_path / "c.npy", "sparsity": 0.5}
    with pytest.raises(UsageError, match="expected allocation uniform or erk, got global"):
        prune_onnx(source, tmp_path / "p.onnx", pattern=UNSTRUCTURED, allocation="global", **options)
    report = prune_onnx(source, tmp_path / "p.onnx", pattern=UNSTRUCTURED, **options)
    assert report.allocation == "uniform"
    assert {round(row.achieved, 2) for row in report.rows if row.asked} == {0.5}


def test_a_graph_without_weights_says_why(tmp_path: Path):
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="plus")]
    path = save_graph(tmp_path / "d.onnx", nodes, {"x": ["n", 4]}, {"y": None}, {"w": normal(1, 4)})
    with pytest.raises(UsageError, match="got none that can be pruned: 'w': read by Add 'plus'"):
        prune_onnx(path, tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.5)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "undefined input", "short weight", "nan"])
def test_broken_files_are_refused_and_nothing_is_written(damage: str, tmp_path: Path):
    path = _mixed(tmp_path / "d.onnx")
    model = onnx.load(path)
    match damage:
        case "missing":
            path.unlink()
        case "empty" | "text" | "cut":
            path.write_bytes({"empty": b"", "text": b"hello", "cut": path.read_bytes()[:900]}[damage])
        case "undefined input":
            model.graph.node[4].input[1] = "nowhere"
            path.write_bytes(model.SerializeToString())
        case "short weight":
            model.graph.initializer[1].raw_data = b"\x00" * 12
            path.write_bytes(model.SerializeToString())
        case _:
            model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((8, 8), np.nan, np.float32), "tied"))
            path.write_bytes(model.SerializeToString())
    with pytest.raises(InputOutputError if damage == "missing" else CorruptError, match=r"d\.onnx"):
        prune_onnx(path, tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.5)
    assert not (tmp_path / "p.onnx").exists()


def test_an_input_of_unknown_size_needs_a_shape_and_pruning_does_not(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save_graph(tmp_path / "d.onnx", nodes, {"x": ["n", "length", 8]}, {"y": None}, {"w": normal(8, 4)})
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    assert "has no size; give --shape x=NxNx8" in report.agreement.missing
    assert "not measured" in report.text()
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"), shapes={"x": (2, 5, 8)})
    assert report.agreement.outputs[0].cosine is not None


def test_what_onnxruntime_cannot_run_is_pruned_all_the_same(tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Theirs", ["h"], ["y"], domain="com.example"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 8])],
        [helper.make_tensor_value_info("y", 1, ["n", 4])],
        [numpy_helper.from_array(normal(8, 4), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    path = tmp_path / "d.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString())
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    assert (tensors_of(tmp_path / "p.onnx")["w"] == 0).sum() == 16
    assert "ONNX Runtime cannot load it" in report.agreement.missing


def test_the_same_options_give_the_same_bytes(tmp_path: Path):
    source = _mixed(tmp_path / "d.onnx")
    one = prune_onnx(source, tmp_path / "1.onnx", pattern=UNSTRUCTURED, sparsity=0.6)
    two = prune_onnx(source, tmp_path / "2.onnx", pattern=UNSTRUCTURED, sparsity=0.6)
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()
    assert one.agreement == two.agreement


def test_the_result_runs_and_bench_times_it_beside_the_dense_one(tmp_path: Path):
    source = _mixed(tmp_path / "d.onnx")
    prune_onnx(source, tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.8)
    assert np.isfinite(run(tmp_path / "p.onnx", {"image": normal(3, 4, 6, 6)})[0]).all()
    zeros, elements = weight_zeros(load_graph(tmp_path / "p.onnx"))
    assert (zeros, elements) == (370, 470)
    launch = perform(
        Request(
            dense=str(source), sparse=str(tmp_path / "p.onnx"), target="onnxruntime-cpu", batch=1, shapes={},
            threads=1, pairs=20, seed=0, warmup=1,
        )
    )  # fmt: skip
    assert launch.environment["batch"] == 1


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed-field"])
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"])
def test_every_float_type_is_pruned_however_it_is_stored(kind: str, raw: bool, tmp_path: Path):
    data_type = onnx.TensorProto.DataType.Value(kind)
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    values = normal(16, 8).astype(dtype)
    payload = values.tobytes() if raw else values.reshape(-1).tolist()
    weight = helper.make_tensor("w", data_type, [16, 8], payload, raw=raw)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save_graph(tmp_path / "d.onnx", nodes, {"x": ["n", 16]}, {"y": None}, {"w": weight}, dtype=data_type)
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    wide = values.astype(np.float64).T.reshape(8, 4, 4)
    lowest = np.argsort(np.argsort(-np.abs(wide), axis=2, kind="stable"), axis=2, kind="stable") >= 2
    expected = np.where(lowest, 0, wide).reshape(8, 16).T
    np.testing.assert_array_equal(tensors_of(tmp_path / "p.onnx")["w"].astype(np.float64), expected)
    assert report.rows[0].dtype == np.dtype(dtype).name
    assert bool(report.agreement.missing) == (kind == "BFLOAT16"), report.agreement.missing


def test_two_tensors_of_one_name_are_refused(tmp_path: Path):
    path = _mixed(tmp_path / "d.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(normal(8, 8), "tied"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CorruptError, match="tied"):
        prune_onnx(path, tmp_path / "p.onnx", pattern=UNSTRUCTURED, sparsity=0.5)
