"""What the installed ONNX Runtime can read, found by asking it rather than by a table of versions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnx
from onnx import TensorProto, helper

from sparsify.errors import UnavailableError
from sparsify_export.runtimes.onnxrt import load_onnxruntime

# What `torch.onnx.export` writes natively; asking for less or more means a converted graph.
EXPORTER_OPSET = 20
_OLDEST_IR, _OLDEST_OPSET = 8, 18


@dataclass(frozen=True, slots=True)
class Readable:
    """The newest file format and operator set that a runtime loads."""

    ir_version: int
    opset: int


@cache
def readable() -> Readable:
    """Newest IR version and opset that both the installed onnx can write and ONNX Runtime loads.

    Without ONNX Runtime (an export for TensorRT alone) the exporter's own opset is taken.
    """
    try:
        load_onnxruntime()
    except UnavailableError:
        return Readable(helper.find_min_ir_version_for([helper.make_opsetid("", EXPORTER_OPSET)]), EXPORTER_OPSET)
    irs = range(int(onnx.IR_VERSION), _OLDEST_IR - 1, -1)
    ir_version = next((ir for ir in irs if _loads(ir, _OLDEST_OPSET)), None)
    opsets = range(onnx.defs.onnx_opset_version(), _OLDEST_OPSET - 1, -1)
    opset = next((opset for opset in opsets if ir_version is not None and _loads(ir_version, opset)), None)
    if ir_version is None or opset is None:
        raise UnavailableError(
            f"expected an ONNX Runtime that reads IR {_OLDEST_IR} and opset {_OLDEST_OPSET}, got one that does not; "
            "pip install --upgrade onnxruntime"
        )
    return Readable(ir_version, opset)


def _loads(ir_version: int, opset: int) -> bool:
    """Whether a session opens on a one-node graph of this version."""
    runtime = load_onnxruntime()
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)])
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's Fail derives from Exception alone
        return False
    return True
