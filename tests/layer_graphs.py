"""One-layer ONNX graphs of every kind that is pruned, and what the runtime itself says their matrices are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


def save_graph(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str] | None],
    weights: Mapping[str, Array | Any],
    *,
    opset: int = 20,
    dtype: int = TensorProto.FLOAT,
    **more: Any,
) -> Path:
    """Write a checked graph; `weights` are arrays or finished TensorProtos."""
    initializers = [
        numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else value
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "layers",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, dtype, None if shape is None else list(shape))
            for name, shape in outputs.items()
        ],
        initializers,
        **more,
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])
    if None in outputs.values():
        model = onnx.shape_inference.infer_shapes(model)
        del model.graph.value_info[:]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@dataclass(frozen=True)
class Layer:
    """A graph of input `x` (one example of `shape`) and output `y`, linear, with one weight `w`."""

    name: str
    nodes: tuple[Any, ...]
    shape: tuple[int, ...]
    axis: int
    """The axis of `x` that holds the input features."""
    weights: Mapping[str, Array] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def write(self, path: Path) -> Path:
        return save_graph(path, self.nodes, {"x": self.shape}, {"y": None}, self.weights)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _layer(
    name: str, op: str, shape: tuple[int, ...], axis: int, w: Array, order: str = "xw", **attributes: Any
) -> Layer:
    return Layer(
        name, (helper.make_node(op, list(order), ["y"], name=f"the {op}", **attributes),), shape, axis, {"w": w}
    )


def _through(name: str, nodes: Sequence[Any], axis: int, shape: tuple[int, ...], **weights: Array) -> Layer:
    return Layer(name, tuple(nodes), shape, axis, weights)


def _node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def _int8(*shape: int) -> NDArray[np.int8]:
    values = np.random.default_rng(3).integers(1, 127, shape, dtype=np.int8)
    return values * np.where(np.arange(values.size).reshape(shape) % 2, 1, -1).astype(np.int8)


LAYERS = [
    _layer("matmul-b", "MatMul", (3, 8), 1, normal(8, 5)),
    _layer("matmul-b-of-3-axes", "MatMul", (2, 3, 8), 2, normal(8, 5)),
    _layer("matmul-b-stacked", "MatMul", (2, 3, 8), 2, normal(2, 8, 5)),
    _layer("matmul-a", "MatMul", (8, 3), 0, normal(5, 8), "wx"),
    _layer("matmul-a-of-3-axes", "MatMul", (2, 8, 3), 1, normal(5, 8), "wx"),
    _layer("gemm", "Gemm", (3, 8), 1, normal(8, 5)),
    _layer("gemm-trans-b", "Gemm", (3, 8), 1, normal(5, 8), transB=1),
    _layer("gemm-trans-a", "Gemm", (8, 3), 0, normal(8, 5), transA=1),
    _layer("gemm-a", "Gemm", (8, 3), 0, normal(5, 8), "wx"),
    _layer("gemm-a-both-turned", "Gemm", (3, 8), 1, normal(8, 5), "wx", transA=1, transB=1),
    _layer("conv", "Conv", (1, 8, 4, 4), 1, normal(3, 8, 3, 3), pads=[1, 1, 1, 1]),
    _layer("conv-1d", "Conv", (1, 8, 6), 1, normal(3, 8, 3)),
    _layer("conv-grouped", "Conv", (1, 16, 3, 3), 1, normal(6, 8, 2, 2), group=2),
    _layer("conv-transpose", "ConvTranspose", (1, 8, 3, 3), 1, normal(8, 3, 2, 2)),
    _layer("conv-transpose-grouped", "ConvTranspose", (1, 16, 3), 1, normal(16, 3, 2), group=2),
    _through(
        "transposed",
        [_node("Transpose", "w", "t", perm=[1, 0]), _node("MatMul", "x t", "y")],
        1, (3, 8), w=normal(5, 8),
    ),
    _through(
        "reshaped",
        [_node("Reshape", "w s", "r"), _node("Identity", "r", "i"), _node("Conv", "x i", "y")],
        1, (1, 8, 3, 3), w=normal(5, 8), s=np.array([0, -1, 1, 1]),
    ),
    _through(
        "cast",
        [_node("Cast", "w", "c", to=TensorProto.FLOAT), _node("MatMul", "x c", "y")],
        1, (3, 8), w=normal(8, 5).astype(np.float16),
    ),
    _through(
        "dequantised",
        [_node("DequantizeLinear", "w scale zero", "d", axis=0), _node("Conv", "x d", "y")],
        1, (1, 8, 3, 3), w=_int8(5, 8, 2, 2), scale=np.array([1, 2, 0.5, 4, 1], np.float32), zero=np.zeros(5, np.int8),
    ),
    _through(
        "fake-quantised",
        [
            _node("QuantizeLinear", "w scale zero", "q"),
            _node("DequantizeLinear", "q scale zero", "d"),
            _node("MatMul", "x d", "y"),
        ],
        1, (3, 8), w=normal(8, 5) + np.sign(normal(8, 5)), scale=np.array(0.05, np.float32), zero=np.array(0, np.int8),
    ),
]  # fmt: skip


def run(path: Path, feed: Mapping[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feed))


def matrix_by_running(path: Path, shape: tuple[int, ...]) -> Array:
    """(outputs, *shape): what ONNX Runtime multiplies each value of `x` by for each value of `y`, one at a time."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    units = np.eye(int(np.prod(shape)), dtype=np.float32)
    answers = [session.run(None, {"x": unit.reshape(shape)})[0].reshape(-1) for unit in units]
    return np.stack(answers, axis=1).reshape(-1, *shape)


def tensors_of(path: Path) -> dict[str, Array]:
    """Initializers and Constant nodes by name, read by onnx itself."""
    model = onnx.load(path)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                found[node.output[0]] = numpy_helper.to_array(item.t)
    return found
