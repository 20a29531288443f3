"""ONNX files made by hand, so that what reads them is not tested against what writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_linear(
    path: Path, *, columns: int = 3, rows: int = 2, batch: int | str = "batch", repeats: int = 1, seed: int = 0
) -> Path:
    """`logits = input @ W`, W (columns, rows) drawn from `seed`, after `repeats` - 1 square products."""
    rng = np.random.default_rng(seed)
    squares = [rng.standard_normal((columns, columns)).astype(np.float32) / columns for _ in range(repeats - 1)]
    weights = [*squares, rng.standard_normal((columns, rows)).astype(np.float32)]
    names = ["input", *(f"x{i}" for i in range(len(weights) - 1)), "logits"]
    nodes = [helper.make_node("MatMul", [names[i], f"W{i}"], [names[i + 1]]) for i in range(len(weights))]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, columns])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, rows])],
        [numpy_helper.from_array(weight, f"W{i}") for i, weight in enumerate(weights)],
    )
    return save(graph, path)


def write_identity(path: Path, inputs: dict[str, tuple[int, Sequence[int | str | None]]]) -> Path:
    """Every input (element type, shape) passed on as `NAME_out`."""
    values = [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()]
    outputs = [
        helper.make_tensor_value_info(f"{name}_out", kind, list(shape)) for name, (kind, shape) in inputs.items()
    ]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    return save(helper.make_graph(nodes, "identity", values, outputs), path)


def save(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
