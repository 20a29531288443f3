"""ONNX files of any origin: read, checked, and what their inputs are. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sparsify.errors import CorruptError, UsageError
from sparsify_export.runtimes.onnx_file import read_onnx
from sparsify_export.sparse.operators import packed_weights

LARGEST = 2**31 - 1
"""Bytes of a protobuf message, and so of a graph with the weights that are inside."""

Dim = int | str | None


@dataclass(frozen=True)
class Input:
    """One input of a graph; a dimension is its size, its symbol, or None where it has neither."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return (
            f"{self.name} {self.dtype} {'x'.join('?' if dim is None else str(dim) for dim in self.shape) or 'scalar'}"
        )


def load_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file; weights kept in files beside it are left there.

    Raises:
        InputOutputError: There is no such file.
        CorruptError: It is not ONNX, or onnx's checker refuses it.
    """
    model = read_onnx(path, weights=False)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorruptError(f"{path}: expected a valid ONNX graph, got: {reason}; export it again") from error
    return model


def weight_zeros(model: onnx.ModelProto, folder: Path | None = None) -> tuple[int, int]:
    """Zeros and elements over the floating-point initializers of two axes or more.

    Those that lie in files are looked for in `folder`; one at a time is in memory.
    """
    zeros = elements = 0
    for tensor in model.graph.initializer:
        if len(tensor.dims) >= 2 and np.issubdtype(helper.tensor_dtype_to_np_dtype(tensor.data_type), np.floating):
            weight = values_of(tensor, folder)
            zeros += int((weight == 0).sum())
            elements += weight.size
    return zeros, elements


def values_of(tensor: onnx.TensorProto, folder: Path | None) -> NDArray[Any]:
    """A tensor's values, from a file in `folder` where they lie in one; the tensor itself is not changed by that."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)  # onnx reads the file into the tensor it is given
        tensor = copy
    return numpy_helper.to_array(tensor, str(folder or ""))


def precision_of(path: Path) -> str:
    """The element types of the weights, such as `float32` or `int8+float32`; `none` for a graph without any.

    Weights of sparse operators count by how their values are stored: `sparse f32`.
    """
    graph = read_onnx(path, weights=False).graph
    tensors = graph.initializer
    found = {onnx.TensorProto.DataType.Name(tensor.data_type).lower() for tensor in tensors if len(tensor.dims) >= 2}
    found |= {f"sparse {packed.precision}" for packed in packed_weights(graph).values()}
    return "+".join(sorted({"float": "float32"}.get(name, name) for name in found)) or "none"


def inputs_of(path: Path) -> tuple[Input, ...]:
    """The inputs that must be fed, in the graph's order.

    Raises:
        InputOutputError: There is no such file.
        CorruptError: It is not a valid ONNX file.
        UsageError: An input is no tensor, or of an element type that NumPy lacks.
    """
    return inputs_in(path, load_graph(path).graph)


def inputs_in(path: Path, graph: onnx.GraphProto) -> tuple[Input, ...]:
    """As `inputs_of`, for the graph of `path` that was read already."""
    stored = {tensor.name for tensor in graph.initializer}
    return tuple(_input(path, value) for value in graph.input if value.name not in stored)


def _input(path: Path, value: onnx.ValueInfoProto) -> Input:
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value")
        raise UsageError(f"{path}: input {value.name!r}: expected a tensor, got a {kind}; only tensors can be made up")
    tensor = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype.kind not in "fiub":
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise UsageError(
            f"{path}: input {value.name!r}: expected floats, integers or booleans, got {name}; cast it inside"
        )
    return Input(value.name, dtype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or None
