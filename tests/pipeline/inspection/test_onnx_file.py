from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsify.errors import CorruptError, InputOutputError
from sparsify.pipeline.inspection import inspect

WEIGHT = np.array([[1, 0], [0, 0], [2, 3]], np.float32)


def save(path: Path, *, external: bool = False) -> None:
    """x (batch, 3) @ weight (3, 2) + bias, then an If whose branches hold an Identity and a Relu."""
    branch = {
        name: helper.make_graph(
            [helper.make_node(op, ["h"], [name])], name, [], [helper.make_empty_tensor_value_info(name)]
        )
        for name, op in (("then", "Identity"), ("else", "Relu"))
    }
    nodes = [
        helper.make_node("Constant", [], ["constant"], value=numpy_helper.from_array(np.eye(2, dtype=np.float32))),
        helper.make_node("MatMul", ["x", "weight"], ["m"]),
        helper.make_node("MatMul", ["m", "constant"], ["n"]),
        helper.make_node("Add", ["n", "bias"], ["h"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch["then"], else_branch=branch["else"]),
    ]
    stored = [
        numpy_helper.from_array(WEIGHT, "weight"),
        numpy_helper.from_array(np.zeros(2, np.float32), "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        stored,
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets, producer_name="p", producer_version="1")
    onnx.save_model(model, path, save_as_external_data=external, size_threshold=0, location="weights.bin")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_versions_and_ends(path: Path):
    document = inspect(path)
    assert (document["kind"], document["ir_version"], document["opset"]) == ("onnx", 10, {"ai.onnx": 18})
    assert document["producer"] == "p 1"
    assert document["inputs"] == [
        {"name": "x", "dtype": "float", "shape": ["batch", 3]},
        {"name": "flag", "dtype": "bool", "shape": []},
    ]
    assert document["outputs"] == [{"name": "y", "dtype": "float", "shape": [None, 2]}]
    json.dumps(document, allow_nan=False)


def test_operators_are_counted_inside_branches_too(path: Path):
    nodes = inspect(path)["nodes"]
    assert nodes == {"Add": 1, "Constant": 1, "Identity": 1, "If": 1, "MatMul": 2, "Relu": 1}


@pytest.mark.parametrize("external", [False, True])
def test_sparsity_of_initializers_and_constants(tmp_path: Path, external: bool):
    save(tmp_path / "m.onnx", external=external)
    document = inspect(tmp_path / "m.onnx")
    rows = {one["name"]: (one["dtype"], one["shape"], one["kept"], one["sparsity"]) for one in document["layers"]}
    assert rows == {
        "weight": ("float", [3, 2], 3, 0.5),
        "bias": ("float", [2], 0, 1.0),
        "constant": ("float", [2, 2], 2, 0.5),
    }
    assert document["weights"] == {"elements": 10, "kept": 5, "sparsity": 0.5}
    assert document["file_bytes"] == (tmp_path / "m.onnx").stat().st_size
    beside = (tmp_path / "weights.bin").stat().st_size if external else 0
    assert document["external_bytes"] == beside


def test_missing_weights_beside_the_graph_are_told(tmp_path: Path):
    save(tmp_path / "m.onnx", external=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CorruptError, match=r"m\.onnx: cannot be read as ONNX"):
        inspect(tmp_path / "m.onnx")


def test_other_bytes_are_refused(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(CorruptError, match=r"m\.onnx: cannot be read as ONNX"):
        inspect(tmp_path / "m.onnx")


def test_an_absent_file(tmp_path: Path):
    with pytest.raises(InputOutputError, match="got nothing there"):
        inspect(tmp_path / "m.onnx")
