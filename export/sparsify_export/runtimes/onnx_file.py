"""An ONNX file as TensorRT's builder and cache need it: read safely, its constants, its inputs, its identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.digest import digest, file_sha256

_MEND = "export it again, or check it with onnx.checker"


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph; a dimension is its size, or the name (or `?`) of a dynamic one."""

    name: str
    shape: tuple[int | str, ...]


def read_onnx(path: Path, *, weights: bool) -> Any:
    """The `onnx.ModelProto` of a file, with the weights it keeps in other files if asked.

    Raises:
        InputOutputError: If there is no such file.
        CorruptError: If it, or a file of weights beside it, cannot be read as ONNX.
    """
    if not path.is_file():
        raise InputOutputError(f"{path}: expected an ONNX file, found none; check the path")
    try:
        model = onnx.load(path, load_external_data=weights)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise CorruptError(f"{path}: cannot be read as ONNX: {error}; {_MEND}") from error
    if not model.graph.node:
        raise CorruptError(f"{path}: expected an ONNX graph, got a file without nodes; {_MEND}")
    return model


def attribute(node: Any, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((item.i for item in node.attribute if item.name == name), default)


def constants(model: Any, path: Path) -> dict[str, NDArray[Any]]:
    """Initializers and Constant nodes by name, as arrays whose zeros are the layer's zeros.

    Cast, Identity, Transpose and symmetric DequantizeLinear of a constant count as constants.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor, str(path.parent)) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    arrays[node.output[0]] = numpy_helper.to_array(item.t, str(path.parent))
        elif node.op_type in ("Identity", "Cast") and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
        elif node.op_type == "DequantizeLinear" and node.input[0] in arrays and _symmetric(node, arrays):
            arrays[node.output[0]] = arrays[node.input[0]]  # quantised zeros are the zeros
        elif node.op_type == "Transpose" and node.input[0] in arrays:
            order = next((list(item.ints) for item in node.attribute if item.name == "perm"), None)
            arrays[node.output[0]] = arrays[node.input[0]].transpose(order)
    return arrays


def _symmetric(node: Any, arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether a DequantizeLinear maps zero to zero: its zero point is left out or zero."""
    zero_point = node.input[2] if len(node.input) > 2 else ""
    return not zero_point or (zero_point in arrays and not arrays[zero_point].any())


def graph_inputs(path: Path) -> tuple[GraphInput, ...]:
    """The inputs a caller must feed, in order; initializers that are listed as inputs too are left out."""
    graph = read_onnx(path, weights=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return tuple(_graph_input(value) for value in graph.input if value.name not in stored)


def _graph_input(value: Any) -> GraphInput:
    dimensions = value.type.tensor_type.shape.dim
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else axis.dim_param or "?"
        for axis in dimensions
    )
    return GraphInput(value.name, shape)


def graph_digest(path: Path) -> str:
    """SHA-256 of a graph: of its file and of each file of weights that it names.

    Raises:
        CorruptError: If it names a file outside its own folder.
        InputOutputError: If a file is missing.
    """
    folder = path.parent.resolve()
    files = [path]
    for name in sorted(set(_external(read_onnx(path, weights=False)))):
        if not (folder / name).resolve().is_relative_to(folder):
            raise CorruptError(f"{path}: names the file {name!r} outside its own folder; {_MEND}")
        files.append(folder / name)
    return digest([file_sha256(file) for file in files])


def _external(model: Any) -> Iterator[str]:
    """Names of files that hold weights: those of initializers, and of constants."""
    tensors = [*model.graph.initializer]
    tensors += [item.t for node in model.graph.node for item in node.attribute if item.HasField("t")]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield from (entry.value for entry in tensor.external_data if entry.key == "location")
