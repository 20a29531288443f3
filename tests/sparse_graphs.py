"""ONNX graphs of our operators, and sessions that know them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = list[int | str | None] | None


def sparse_graph(
    operator: str,
    inputs: dict[str, Shape],
    constants: dict[str, np.ndarray],
    order: list[str],
    **attributes: Any,
) -> onnx.ModelProto:
    """One node `operator` whose inputs are named in `order` (an empty name leaves one out), then an Identity."""
    nodes = [
        helper.make_node(operator, order, ["inner"], domain="sparsify", name="the_node", **attributes),
        helper.make_node("Identity", ["inner"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("sparsify", 1)]
    )


def open_session(model: onnx.ModelProto, library: Path, *, threads: int = 1):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sparse_weights(rng: np.random.Generator, *shape: int, density: float = 0.2) -> np.ndarray:
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def activated(name: str, values: np.ndarray) -> np.ndarray:
    """Every activation in float64."""
    from scipy.special import erf, expit

    cubic = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    return {
        "none": values,
        "relu": np.maximum(values, 0),
        "relu6": np.clip(values, 0, 6),
        "gelu": 0.5 * values * (1 + erf(values / np.sqrt(2))),
        "gelu_tanh": 0.5 * values * (1 + np.tanh(cubic)),
        "silu": values * expit(values),
        "hardswish": values * np.clip(values + 3, 0, 6) / 6,
    }[name]
