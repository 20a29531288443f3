from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layer_graphs import normal, run, save_graph, tensors_of
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.recipe.pattern import Pattern
from sparsify_export.onnx_prune import prune_onnx

TWO_OF_FOUR = Pattern.parse("2:4")


def external_graph(path: Path) -> Path:
    """Two layers; the weights of both lie in `weights/all.bin`, the bias and a table in `rest.bin`."""
    folder = path.parent
    (folder / "weights").mkdir(parents=True)
    arrays = {"w": normal(8, 8), "v": normal(8, 4, seed=1), "b": normal(4, seed=2), "t": normal(5, 4, seed=3)}
    tensors: list[onnx.TensorProto] = []
    data = {"weights/all.bin": b"head", "rest.bin": b""}
    for name, array in arrays.items():
        location = "weights/all.bin" if name in "wv" else "rest.bin"
        tensor = numpy_helper.from_array(array, name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": len(data[location]), "length": array.nbytes}.items():
            tensor.external_data.add(key=key, value=str(value))
        data[location] += array.tobytes() + b"gap"
        tensors.append(tensor)
    for location, content in data.items():
        (folder / location).write_bytes(content)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "v", "b"], ["g"]),
        helper.make_node("Gather", ["t", "zero"], ["row"]),
        helper.make_node("Add", ["g", "row"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("x", 1, ["n", 8]), helper.make_tensor_value_info("y", 1, ["n", 4])]
    tensors.append(numpy_helper.from_array(np.array([0]), "zero"))
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    path.write_bytes(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    )
    return path


def _inline(path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gemm", ["h", "v", "b"], ["y"], name="g")]
    weights = {"w": normal(16, 64), "b": normal(4, seed=2), "v": normal(64, 4, seed=1), "idle": normal(300, seed=4)}
    return save_graph(path, nodes, {"x": ["n", 16]}, {"y": None}, weights)


def test_every_byte_but_the_removed_weights_is_the_source_s(tmp_path: Path):
    source = _inline(tmp_path / "dense.onnx")
    before = source.read_bytes()
    prune_onnx(source, tmp_path / "out" / "pruned.onnx", pattern=TWO_OF_FOUR)
    after = np.frombuffer((tmp_path / "out" / "pruned.onnx").read_bytes(), np.uint8)
    assert source.read_bytes() == before
    expected = np.frombuffer(before, np.uint8).copy()
    for name in "wv":
        at, array = before.find(tensors_of(source)[name].tobytes()), tensors_of(tmp_path / "out" / "pruned.onnx")[name]
        expected[at : at + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    np.testing.assert_array_equal(after, expected)


def test_nodes_and_other_initializers_are_equal_as_onnx_reads_them(tmp_path: Path):
    source = _inline(tmp_path / "dense.onnx")
    prune_onnx(source, tmp_path / "pruned.onnx", pattern=TWO_OF_FOUR)
    dense, pruned = onnx.load(source), onnx.load(tmp_path / "pruned.onnx")
    for model in (dense, pruned):
        for tensor in model.graph.initializer:
            if tensor.name in "wv":
                tensor.ClearField("raw_data")
    assert dense == pruned


def test_only_the_leftovers_of_removal_are_gone(tmp_path: Path):
    """Kept weights keep their bits."""
    source = _inline(tmp_path / "dense.onnx")
    prune_onnx(source, tmp_path / "pruned.onnx", pattern=Pattern("unstructured"), sparsity=0.7)
    for name in "wv":
        dense, pruned = tensors_of(source)[name], tensors_of(tmp_path / "pruned.onnx")[name]
        np.testing.assert_array_equal(pruned, np.where(pruned != 0, dense, 0))


def test_files_of_weights_are_written_beside(tmp_path: Path):
    source = external_graph(tmp_path / "dense" / "m.onnx")
    kept = {path: path.read_bytes() for path in (tmp_path / "dense").rglob("*") if path.is_file()}
    report = prune_onnx(source, tmp_path / "pruned" / "p.onnx", pattern=TWO_OF_FOUR)
    out = tmp_path / "pruned"
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "p.onnx", "rest.bin", "weights/all.bin",
    }  # fmt: skip
    assert (out / "p.onnx").read_bytes() == source.read_bytes()
    assert (out / "rest.bin").read_bytes() == (tmp_path / "dense" / "rest.bin").read_bytes()
    data = (out / "weights" / "all.bin").read_bytes()
    assert (data[:4], data[4 + 256 : 7 + 256], data[-3:]) == (b"head", b"gap", b"gap")
    assert (tensors_of(out / "p.onnx")["w"] == 0).sum() == 32
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert report.file_bytes[0] == report.file_bytes[1] == sum(map(len, kept.values()))
    np.testing.assert_allclose(
        run(out / "p.onnx", {"x": normal(2, 8)})[0],
        normal(2, 8) @ tensors_of(out / "p.onnx")["w"] @ tensors_of(out / "p.onnx")["v"]
        + tensors_of(source)["b"] + tensors_of(source)["t"][0],
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    assert report.agreement.outputs


def test_wanda_reads_inputs_of_a_graph_whose_weights_are_beside_it(tmp_path: Path):
    source = external_graph(tmp_path / "dense" / "m.onnx")
    x = normal(50, 8, seed=5)
    np.save(tmp_path / "c.npy", x)
    prune_onnx(
        source, tmp_path / "p" / "p.onnx", pattern=TWO_OF_FOUR, criterion="wanda", calibration=tmp_path / "c.npy"
    )
    scores = np.abs(tensors_of(source)["w"].T) * np.linalg.norm(x, axis=0)
    kept = np.argsort(-scores.reshape(8, 2, 4), axis=2)[:, :, :2]
    got = tensors_of(tmp_path / "p" / "p.onnx")["w"].T.reshape(8, 2, 4)
    np.testing.assert_array_equal(np.sort(np.argsort(got == 0, axis=2, kind="stable")[:, :, :2]), np.sort(kept))


def test_pruning_again_replaces_what_was_written(tmp_path: Path):
    source = external_graph(tmp_path / "dense" / "m.onnx")
    out = tmp_path / "pruned" / "p.onnx"
    prune_onnx(source, out, pattern=TWO_OF_FOUR)
    prune_onnx(source, out, pattern=Pattern("unstructured"), sparsity=0.9)
    assert (tensors_of(out)["w"] == 0).mean() > 0.8


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("dense/m.onnx", "expected another file than the dense graph"),
        ("dense/p.onnx", "write the pruned one into another folder"),
        ("taken/p.onnx", "got one that is not p.onnx's; choose another folder"),
        ("taken", "expected a file to write, got a folder"),
    ],
)
def test_places_that_would_overwrite_something(out: str, message: str, tmp_path: Path):
    source = external_graph(tmp_path / "dense" / "m.onnx")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "rest.bin").write_bytes(b"somebody's")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=message):
        prune_onnx(source, tmp_path / out, pattern=TWO_OF_FOUR)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_location_outside_the_folder_is_refused_before_anything_is_written(tmp_path: Path):
    source = external_graph(tmp_path / "dense" / "m.onnx")
    model = onnx.load(source, load_external_data=False)
    (tmp_path / "rest.bin").write_bytes((tmp_path / "dense" / "rest.bin").read_bytes())
    model.graph.initializer[3].external_data[0].value = "../rest.bin"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(CorruptError, match=r"\.\./rest\.bin"):
        prune_onnx(source, tmp_path / "pruned" / "p.onnx", pattern=TWO_OF_FOUR)
    assert not (tmp_path / "pruned").exists()


def test_a_failing_disk_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = _inline(tmp_path / "dense.onnx")
    out = tmp_path / "p.onnx"
    out.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputOutputError, match="No space left"):
        prune_onnx(source, out, pattern=TWO_OF_FOUR)
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"dense.onnx", "p.onnx"}
