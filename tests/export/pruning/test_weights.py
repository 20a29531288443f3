from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layer_graphs import LAYERS, Layer, matrix_by_running, normal, save_graph, tensors_of
from sparsify.recipe.pattern import Pattern
from sparsify_export.onnx_prune import prune_onnx
from sparsify_export.pruning.views import seen
from sparsify_export.pruning.weights import Found, find_weights
from sparsify_export.pruning.wire import read_skeleton


def _found(path: Path) -> Found:
    return find_weights(read_skeleton(path))


def _reasons(path: Path) -> dict[str, str]:
    return {one.name: one.reason for one in _found(path).skipped}


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_shown_weight_has_outputs_first_and_inputs_second(layer: Layer, tmp_path: Path):
    (weight,) = _found(layer.write(tmp_path / "g.onnx")).weights
    assert weight.name == "w"
    assert weight.shape[1] == layer.weights["w"].size // (weight.shape[0] * int(np.prod(weight.shape[2:])))
    assert weight.shape[1] == 8
    assert tuple(seen(weight.view, weight.stored.read()).shape) == weight.shape


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_two_of_four_lie_along_the_axis_that_the_runtime_multiplies_over(layer: Layer, tmp_path: Path):
    """The oracle is ONNX Runtime: what it multiplies each input by, found by feeding one 1 at a time."""
    source = layer.write(tmp_path / "dense.onnx")
    prune_onnx(source, tmp_path / "pruned.onnx", pattern=Pattern.parse("2:4"))
    dense = np.moveaxis(matrix_by_running(source, layer.shape), layer.axis + 1, -1)
    pruned = np.moveaxis(matrix_by_running(tmp_path / "pruned.onnx", layer.shape), layer.axis + 1, -1)
    groups = (*pruned.shape[:-1], pruned.shape[-1] // 4, 4)
    before, after = dense.reshape(groups), pruned.reshape(groups)
    assert set(np.unique((before != 0).sum(-1))) <= {0, 4}
    np.testing.assert_array_equal((after != 0).sum(-1), (before != 0).sum(-1) // 2)
    largest = np.sort(np.abs(before), axis=-1)[..., 2:]
    np.testing.assert_array_equal(np.sort(np.abs(after), axis=-1)[..., 2:], largest)


def test_constant_nodes_are_weights(tmp_path: Path):
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(8, 4)))
    nodes = [constant, helper.make_node("MatMul", ["x", "c"], ["y"])]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8]}, {"y": None}, {})
    prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    assert (tensors_of(tmp_path / "p.onnx")["c"] == 0).sum() == 16


def test_a_tied_weight_is_one_and_names_its_nodes(tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
        helper.make_node("Gather", ["w", "index"], ["z"], name="lookup"),
    ]
    weights = {"w": normal(8, 8), "index": np.array([0])}
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8]}, {"y": None, "z": None}, weights)
    (weight,) = _found(path).weights
    assert weight.nodes == ("first", "second")
    assert weight.others == ("Gather 'lookup'",)


def test_a_weight_multiplied_along_two_axes_is_skipped(tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="encode"),
        helper.make_node("Gemm", ["h", "w"], ["y"], name="decode", transB=1),
    ]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 8]}, {"y": None}, {"w": normal(8, 8)})
    assert not _found(path).weights
    assert _reasons(path) == {"w": "MatMul 'encode' and Gemm 'decode' multiply it along different axes"}


def test_what_is_no_weight_says_why(tmp_path: Path):
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["h"], name="embed"),
        helper.make_node("Add", ["h", "shift"], ["a"], name="add"),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("MatMul", ["b", "given"], ["c"]),
        helper.make_node("Expand", ["wide", "shape"], ["e"], name="expand"),
        helper.make_node("MatMul", ["c", "e"], ["y"]),
    ]
    weights = {
        "table": normal(9, 4),
        "index": np.array([0, 1, 2]),
        "shift": normal(3, 4),
        "w": normal(4, 4),
        "given": normal(4, 4),
        "wide": normal(1, 4),
        "shape": np.array([4, 4]),
        "idle": normal(2, 2),
    }
    path = save_graph(tmp_path / "g.onnx", nodes, {}, {"y": None, "given": [4, 4]}, weights)
    assert [weight.name for weight in _found(path).weights] == ["w"]
    assert _reasons(path) == {
        "table": "read by Gather 'embed', not by Conv, ConvTranspose, Gemm, MatMul",
        "shift": "read by Add 'add', not by Conv, ConvTranspose, Gemm, MatMul",
        "given": "it is an output of the graph, 'given'",
        "wide": "read by Expand 'expand', not by Conv, ConvTranspose, Gemm, MatMul",
        "idle": "no node reads it",
    }


def test_integers_without_a_symmetric_scale_are_skipped(tmp_path: Path):
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="shifted"),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    weights = {
        "q": np.ones((4, 4), np.int8),
        "scale": np.array(0.5, np.float32),
        "zero": np.array(3, np.int8),
    }
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 4]}, {"y": None}, weights)
    assert _reasons(path) == {"q": "read by DequantizeLinear 'shifted', not by Conv, ConvTranspose, Gemm, MatMul"}
    weights["zero"] = np.array(0, np.int8)
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 4]}, {"y": None}, weights)
    assert [weight.name for weight in _found(path).weights] == ["q"]


def test_types_that_are_not_pruned_are_skipped(tmp_path: Path):
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    weights = {"q": np.ones((4, 4), np.uint8), "scale": np.array(0.5, np.float32)}
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 4]}, {"y": None}, weights)
    assert _reasons(path) == {"q": "its values, uint8, are of a type or in a form that is not pruned"}


def _with_if(path: Path) -> Path:
    """`y` is x @ w, or x @ inside, by a condition; `w` is also read in the first branch."""
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["b"])], "then", [], [value])
    inside = numpy_helper.from_array(normal(4, 4), "inside")
    other = helper.make_graph([helper.make_node("MatMul", ["x", "inside"], ["b"])], "else", [], [value], [inside])
    nodes = [
        helper.make_node("If", ["which"], ["h"], name="choose", then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="after"),
    ]
    weights = {"w": normal(4, 4), "which": np.array(True)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path.write_bytes(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    )
    return path


def test_graphs_inside_nodes_are_named(tmp_path: Path):
    path = _with_if(tmp_path / "g.onnx")
    (weight,) = _found(path).weights
    assert (weight.name, weight.others) == ("w", ("the graph inside If 'choose'",))
    assert _reasons(path) == {"inside": "it is kept in the graph inside If 'choose'"}


def test_sparse_tensors_are_left_as_they_are(tmp_path: Path):
    path = save_graph(
        tmp_path / "g.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 4]}, {"y": None},
        {"w": normal(4, 4)},
    )  # fmt: skip
    model = onnx.load(path)
    values = numpy_helper.from_array(np.ones(2, np.float32), "thin")
    indices = numpy_helper.from_array(np.array([0, 5]), "")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    path.write_bytes(model.SerializeToString())
    assert _reasons(path) == {"thin": "it is stored as a sparse tensor, which is left as it is"}


def test_tensors_that_share_bytes_are_skipped(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(normal(8, 8).tobytes())
    tensors: list[onnx.TensorProto] = []
    for name, offset in {"one": 0, "two": 64, "three": 192}.items():
        tensor = numpy_helper.from_array(normal(4, 4) if name != "two" else normal(4, 4, seed=1), name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", "offset": str(offset), "length": "64"}.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    tensors[1].external_data[1].value = "32"
    nodes = [
        helper.make_node("MatMul", [a, b], [c])
        for a, b, c in [("x", "one", "g"), ("g", "two", "h"), ("h", "three", "y")]
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    path = tmp_path / "g.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())
    assert [weight.name for weight in _found(path).weights] == ["three"]
    assert _reasons(path) == {
        "one": "it shares its bytes with the tensor 'two'",
        "two": "it shares its bytes with the tensor 'one'",
    }


def test_an_operator_of_another_domain_is_not_taken_for_onnx_s(tmp_path: Path):
    path = tmp_path / "g.onnx"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="theirs", domain="com.example")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(normal(4, 4), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    path.write_bytes(helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString())
    assert "read by MatMul 'theirs'" in _reasons(path)["w"]
