from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from layer_graphs import normal, save_graph
from sparsify.errors import CorruptError
from sparsify_export.pruning.tensors import external_files, stored_tensors
from sparsify_export.pruning.wire import read_skeleton

KINDS = {
    "float32": (TensorProto.FLOAT, np.float32),
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "float64": (TensorProto.DOUBLE, np.float64),
    "int8": (TensorProto.INT8, np.int8),
}


def _proto(kind: str, raw: bool) -> tuple[onnx.TensorProto, np.ndarray]:
    data_type, dtype = KINDS[kind]
    values = (normal(6, 50) * 20).astype(dtype)
    flat = values.reshape(-1)
    payload = flat.tobytes() if raw else flat.tolist()
    return helper.make_tensor("w", data_type, [6, 50], payload, raw=raw), values


def _graph(path: Path, proto: onnx.TensorProto) -> Path:
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    return save_graph(path, nodes, {}, {"y": [6, 50]}, {"w": proto}, dtype=proto.data_type)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed-field"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_read_as_onnx_reads_them(kind: str, raw: bool, tmp_path: Path):
    proto, values = _proto(kind, raw)
    stored, _ = stored_tensors(read_skeleton(_graph(tmp_path / "g.onnx", proto)))["w"]
    assert stored is not None
    assert stored.readable
    assert stored.type_name == kind
    np.testing.assert_array_equal(stored.read().double().numpy(), values.astype(np.float64))


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed-field"])
@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_bytes_put_into_the_file_are_zeros_to_onnx_and_the_rest_is_kept(kind: str, raw: bool, tmp_path: Path):
    proto, values = _proto(kind, raw)
    path = _graph(tmp_path / "g.onnx", proto)
    stored, _ = stored_tensors(read_skeleton(path))["w"]
    assert stored is not None
    kept = np.random.default_rng(0).random((6, 50)) < 0.5
    data = path.read_bytes()
    span = stored.span
    changed = data[: span.offset] + stored.zeroed(kept).tobytes() + data[span.offset + span.length :]
    assert len(changed) == len(data)
    path.write_bytes(changed)
    onnx.checker.check_model(str(path))
    got = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float64)
    np.testing.assert_array_equal(got, np.where(kept, values.astype(np.float64), 0))
    assert not np.signbit(got[~kept]).any()


def test_bytes_that_do_not_fill_the_shape_are_corrupt(tmp_path: Path):
    proto, _ = _proto("float32", raw=True)
    model = onnx.load(_graph(tmp_path / "g.onnx", proto))
    model.graph.initializer[0].dims[0] = 10**12
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    stored, _ = stored_tensors(read_skeleton(tmp_path / "g.onnx"))["w"]
    assert stored is not None
    with pytest.raises(CorruptError, match=r"tensor 'w': expected 200000000000000 bytes .* got 1200"):
        stored.read()


def test_varints_that_do_not_fill_the_shape_are_corrupt(tmp_path: Path):
    proto, _ = _proto("float16", raw=False)
    del proto.int32_data[0]
    model = onnx.load(_graph(tmp_path / "g.onnx", _proto("float16", raw=False)[0]))
    model.graph.initializer[0].CopyFrom(proto)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    stored, _ = stored_tensors(read_skeleton(tmp_path / "g.onnx"))["w"]
    assert stored is not None
    with pytest.raises(CorruptError, match="expected 300 values, got 299"):
        stored.read()


def _external(folder: Path, **entries: str) -> Path:
    """A graph whose weight lies in `weights.bin`; `entries` replace what it says of that."""
    (folder / "weights.bin").write_bytes(b"head" + normal(6, 50).tobytes() + b"tail")
    proto = numpy_helper.from_array(normal(6, 50), "w")
    proto.ClearField("raw_data")
    proto.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin", "offset": "4", "length": "1200"} | entries).items():
        proto.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 50])], [proto])
    path = folder / "g.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_weights_beside_the_graph(tmp_path: Path):
    skeleton = read_skeleton(_external(tmp_path))
    stored, _ = stored_tensors(skeleton)["w"]
    assert stored is not None
    assert torch.equal(stored.read(), torch.from_numpy(normal(6, 50)))
    assert external_files(skeleton) == {"weights.bin": tmp_path.resolve() / "weights.bin"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../outside.bin"}, "outside its own folder"),
        ({"location": "/etc/passwd"}, "outside its own folder"),
        ({"location": "link.bin"}, "outside its own folder"),
        ({"location": ""}, "outside its own folder"),
        ({"location": "none.bin"}, "missing"),
        ({"offset": "100"}, "which has 1208"),
        ({"offset": "-4"}, "expected bytes -4"),
        ({"length": "99999999999999"}, "which has 1208"),
        ({"offset": "four"}, "expected an offset and a length"),
    ],
)
def test_hostile_places_are_corrupt(entries: dict[str, str], message: str, tmp_path: Path):
    folder = tmp_path / "graph"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"0" * 2000)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    skeleton = read_skeleton(_external(folder, **entries))
    with pytest.raises(CorruptError, match=message):
        stored_tensors(skeleton)
    with pytest.raises(CorruptError, match=message):
        external_files(skeleton)
