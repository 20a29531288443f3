"""A small session with one sparse operator: nothing is believed to run that has not answered."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from sparsify.errors import SparsifyError
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse.available import kernels
from sparsify_export.sparse.operators import DOMAIN, LINEAR, VERSION


def operators_refusal() -> str:
    """Why the sparse operators do not run here; empty when one has answered."""
    source, sink = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 2), ("y", 1))
    )
    try:
        packing, _ = kernels()
        weights = numpy_helper.from_array(packing.pack(np.array([[0, 2]], np.float32)), "w")
        node = helper.make_node(LINEAR, ["x", "w"], ["y"], domain=DOMAIN, rows=1, columns=2)
        graph = helper.make_graph([node], "trial", [source], [sink], [weights])
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
        model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
        with OnnxRuntime(model.SerializeToString()) as runtime:
            answer = runtime.infer({"x": np.array([[5, 3]], np.float32)})["y"]
    except SparsifyError as error:
        return str(error)
    return "" if answer.tolist() == [[6.0]] else f"expected 2 x 3 = 6 from a sparse operator, got {answer.tolist()}"
