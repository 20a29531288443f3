"""The smallest sparse operator: nothing is believed to run that has not answered, and what a call of it takes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sparsify.errors import SparsifyError
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse.available import kernels
from sparsify_export.sparse.lone import nanoseconds
from sparsify_export.sparse.operators import DOMAIN, LINEAR, VERSION


def operators_refusal() -> str:
    """Why the sparse operators do not run here; empty when one has answered."""
    try:
        with OnnxRuntime(_smallest().SerializeToString()) as runtime:
            answer = runtime.infer({"x": np.array([[5, 3]], np.float32)})["y"]
    except SparsifyError as error:
        return str(error)
    return "" if answer.tolist() == [[6.0]] else f"expected 2 x 3 = 6 from a sparse operator, got {answer.tolist()}"


def call_ns() -> float:
    """Nanoseconds that a sparse operator takes whatever it computes: ONNX Runtime calls its own with less ado."""
    return nanoseconds(_smallest())


def _smallest() -> onnx.ModelProto:
    packing, _ = kernels()
    source, sink = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 2), ("y", 1))
    )
    weights = numpy_helper.from_array(packing.pack(np.array([[0, 2]], np.float32)), "w")
    node = helper.make_node(LINEAR, ["x", "w"], ["y"], domain=DOMAIN, rows=1, columns=2)
    graph = helper.make_graph([node], "trial", [source], [sink], [weights])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets)
