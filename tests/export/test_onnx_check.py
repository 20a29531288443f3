from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from small_graphs import save, write_identity, write_linear
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify_export.onnx_check import inputs_of, load_graph, precision_of, weight_zeros


def test_inputs_with_fixed_symbolic_and_unnamed_axes(tmp_path: Path):
    path = write_identity(
        tmp_path / "g.onnx",
        {
            "ids": (TensorProto.INT64, ["batch", "length"]),
            "x": (TensorProto.FLOAT16, [1, None]),
            "s": (TensorProto.BOOL, []),
        },
    )
    ids, x, s = inputs_of(path)
    assert (ids.name, ids.dtype, ids.shape) == ("ids", np.int64, ("batch", "length"))
    assert (x.dtype, x.shape) == (np.float16, (1, None))
    assert (s.dtype, s.shape) == (np.bool_, ())
    assert list(map(str, (ids, x, s))) == ["ids int64 batchxlength", "x float16 1x?", "s bool scalar"]


def test_initializers_listed_as_inputs_are_not_fed(tmp_path: Path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1]), value("w", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "w")],
    )
    assert [source.name for source in inputs_of(save(graph, tmp_path / "g.onnx"))] == ["x"]


def test_an_element_type_that_numpy_lacks_is_named(tmp_path: Path):
    path = write_identity(tmp_path / "g.onnx", {"x": (TensorProto.STRING, [1])})
    with pytest.raises(UsageError, match="'x': expected floats, integers or booleans, got STRING"):
        inputs_of(path)


def test_zeros_are_counted_over_matrices_only(tmp_path: Path):
    arrays = {
        "a": np.array([[0, 1], [-0.0, 2]], np.float32),
        "b": np.zeros(5, np.float32),
        "i": np.zeros((2, 2), np.int64),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in arrays],
        "g",
        [],
        [
            helper.make_tensor_value_info(f"{name}_out", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    assert weight_zeros(load_graph(save(graph, tmp_path / "g.onnx"))) == (2, 4)
    assert precision_of(tmp_path / "g.onnx") == "float32+int64"


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InputOutputError, match="found none"):
        load_graph(tmp_path / "none.onnx")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\x00" * 9])
def test_damaged_bytes_are_corrupt(tmp_path: Path, damage):
    path = write_linear(tmp_path / "g.onnx", columns=40)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptError, match=r"g\.onnx"):
        load_graph(path)


def test_a_graph_that_the_checker_refuses_is_corrupt(tmp_path: Path):
    path = write_linear(tmp_path / "g.onnx")
    model = onnx.load(path)
    model.graph.node[0].input[1] = "nowhere"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CorruptError, match="expected a valid ONNX graph"):
        load_graph(path)
