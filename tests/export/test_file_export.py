from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from small_graphs import save, write_identity, write_linear
from sparsify.errors import CorruptError, UsageError
from sparsify_export.file_export import copy_graph, export_onnx
from sparsify_export.targets import TARGETS

CPU = TARGETS["onnxruntime-cpu"]


@pytest.mark.parametrize("batch", ["n", 4], ids=["dynamic batch", "fixed batch"])
def test_a_foreign_graph_is_run_and_reported(tmp_path: Path, batch: int | str):
    report = export_onnx(write_linear(tmp_path / "g.onnx", batch=batch), tmp_path, target=CPU, batch_sizes=(1, 3))
    assert report["status"].startswith("run on made-up inputs; there is no PyTorch network")
    assert (report["weights"], report["sparsity"], report["inputs"]) == (6, 0.0, [f"input float32 {batch}x3"])
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_outputs_that_are_not_finite_are_corrupt(tmp_path: Path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([1, np.nan], np.float32), "w")],
    )
    with pytest.raises(CorruptError, match="output 'y' is not finite at batch 1"):
        export_onnx(save(graph, tmp_path / "g.onnx"), tmp_path, target=CPU, batch_sizes=(1,))


def test_an_open_shape_is_refused(tmp_path: Path):
    path = write_identity(tmp_path / "g.onnx", {"x": (TensorProto.FLOAT, ["n", "h"])})
    with pytest.raises(UsageError, match="axis 1"):
        export_onnx(path, tmp_path, target=CPU, batch_sizes=(1,))
    found = export_onnx(path, tmp_path, target=CPU, batch_sizes=(1,), shapes={"x": (2, 5)})
    assert found["inputs"] == ["x float32 nxh"]


def test_tensorrt_rtx_builds_a_foreign_graph(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    path = write_linear(tmp_path / "g.onnx", columns=16, rows=8)
    report = export_onnx(path, tmp_path, target=TARGETS["tensorrt-rtx"], batch_sizes=(1,))
    assert {plan["target"] for plan in report["plans"]} == {"SM86", "SM89"}
    assert len(list(tmp_path.glob("*.plan"))) == 2


def beside(folder: Path, weights: str) -> Path:
    """y = x w, with a zero in w, whose values lie in the file `weights`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([[1, 0], [3, 4]], np.float32), "w")],
    )
    model = onnx.load(save(graph, folder / "g.onnx"))
    onnx.save(model, folder / "g.onnx", save_as_external_data=True, location=weights, size_threshold=0)
    return folder / "g.onnx"


def test_weights_that_lie_beside_a_graph_come_along(tmp_path: Path):
    source, out = tmp_path / "given", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    copy = copy_graph(beside(source, "weights.bin"), out)
    shutil.rmtree(source)
    report = export_onnx(copy, out, target=CPU, batch_sizes=(1,))
    assert (report["weights"], report["sparsity"]) == (4, 0.25)
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "report.json", "weights.bin"]


@pytest.mark.parametrize("name", ["model.onnx", "report.json"])
def test_weights_in_a_file_called_as_one_of_ours_are_refused(tmp_path: Path, name: str):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=f"expected weights in a file of another name, got '{name}'"):
        copy_graph(beside(tmp_path, name), tmp_path / "out")
