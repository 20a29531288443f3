from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from layer_graphs import LAYERS, normal, save_graph
from sparsify.errors import CorruptError, InputOutputError
from sparsify_export.pruning.wire import read_skeleton


def _large(path: Path) -> Path:
    """A graph whose weight and whose Constant are too large for the skeleton."""
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(64, 32, seed=1), "inner"))
    nodes = [constant, helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "c"], ["y"])]
    return save_graph(path, nodes, {"x": ["n", 16]}, {"y": None}, {"w": normal(16, 64), "s": np.array([1, 2])})


def test_spans_are_where_the_bytes_lie(tmp_path: Path):
    path = _large(tmp_path / "g.onnx")
    data = path.read_bytes()
    spans = read_skeleton(path).spans
    for place, array in {("initializer", 0, 0): normal(16, 64), ("node", 0, 0): normal(64, 32, seed=1)}.items():
        span = spans[place]
        assert (span.offset, span.length) == (data.find(array.tobytes()), array.nbytes)
        assert span.encoding == "raw"


def test_the_skeleton_is_the_model_without_its_large_values(tmp_path: Path):
    path = _large(tmp_path / "g.onnx")
    expected = onnx.load(path)
    expected.graph.initializer[0].ClearField("raw_data")
    expected.graph.node[0].attribute[0].t.ClearField("raw_data")
    assert read_skeleton(path).model == expected


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_small_graphs_are_read_whole(layer, tmp_path: Path):
    path = layer.write(tmp_path / "g.onnx")
    assert read_skeleton(path).model == onnx.load(path)


@pytest.mark.parametrize("kind", ["float_data", "double_data", "int32_data"])
def test_values_in_typed_fields_are_found(kind: str, tmp_path: Path):
    types = {"float_data": TensorProto.FLOAT, "double_data": TensorProto.DOUBLE, "int32_data": TensorProto.FLOAT16}
    tensor = helper.make_tensor("w", types[kind], [4, 200], normal(4, 200).reshape(-1).tolist())
    assert len(getattr(tensor, kind))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save_graph(tmp_path / "g.onnx", nodes, {"x": ["n", 4]}, {"y": None}, {"w": tensor}, dtype=types[kind])
    span = read_skeleton(path).spans["initializer", 0, 0]
    assert span.encoding == {"float_data": "float", "double_data": "double", "int32_data": "varint"}[kind]
    if kind == "float_data":
        raw = path.read_bytes()[span.offset : span.offset + span.length]
        np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(4, 200), normal(4, 200))


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InputOutputError, match="found none"):
        read_skeleton(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 20, b"not an onnx file at all", b"\xff" * 64, b"\x3a\xff\xff\xff\xff\x0f", b"\x08\x07"],
    ids=["empty", "zeros", "text", "ones", "longer-than-the-file", "no-graph"],
)
def test_bytes_that_are_no_graph(data: bytes, tmp_path: Path):
    (tmp_path / "g.onnx").write_bytes(data)
    with pytest.raises(CorruptError, match=r"g\.onnx"):
        read_skeleton(tmp_path / "g.onnx")


def test_two_graphs_in_one_file_are_refused(tmp_path: Path):
    """Protobuf joins them, so where the weights lie would be ambiguous."""
    path = _large(tmp_path / "g.onnx")
    extra = onnx.ModelProto()
    extra.graph.name = "again"
    path.write_bytes(path.read_bytes() + extra.SerializePartialToString())
    with pytest.raises(CorruptError, match="its graph twice"):
        read_skeleton(path)


def test_two_values_of_one_tensor_are_refused(tmp_path: Path):
    tensor = numpy_helper.from_array(normal(2, 2), "w")
    tensor.float_data.extend([1, 2, 3, 4])
    model = onnx.load(_large(tmp_path / "g.onnx"))
    model.graph.initializer[0].CopyFrom(tensor)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CorruptError, match="initializer 0 holds its values twice"):
        read_skeleton(tmp_path / "g.onnx")


_SOUND = helper.make_model(
    helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(normal(40, 8), "w")],
    )
).SerializeToString()


@given(st.integers(0, len(_SOUND) - 1), st.integers(0, 255), st.booleans())
def test_any_flipped_or_missing_byte_is_read_or_refused_as_corrupt(at: int, byte: int, cut: bool):
    """Never another exception, and every span lies within the file."""
    import tempfile

    data = _SOUND[:at] if cut else _SOUND[:at] + bytes([byte]) + _SOUND[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.onnx"
        path.write_bytes(data)
        try:
            skeleton = read_skeleton(path)
        except CorruptError:
            return
    assert all(0 <= span.offset <= span.offset + span.length <= len(data) for span in skeleton.spans.values())
