"""A graph's stored tensors: where their bytes lie, read as torch tensors and zeroed one at a time.

Torch is imported when the first is read: whoever asks only where they lie does not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from sparsify.errors import CorruptError, InputOutputError
from sparsify_export.pruning.wire import Encoding, Place, Skeleton, Span, subgraphs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8",
}
"""Element types that are pruned, as torch calls them; int8 only where a symmetric DequantizeLinear reads it."""
_ENCODINGS: dict[int, tuple[Encoding, ...]] = {
    TensorProto.FLOAT: ("raw", "float"),
    TensorProto.DOUBLE: ("raw", "double"),
    TensorProto.FLOAT16: ("raw", "varint"),
    TensorProto.BFLOAT16: ("raw", "varint"),
    TensorProto.INT8: ("raw", "varint"),
}
_LONGEST_VARINT = 10

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Stored:
    """One tensor of a graph as it is stored."""

    name: str
    data_type: int
    shape: tuple[int, ...]
    path: Path
    """The file that holds its bytes: the graph's own, or one beside it."""
    span: Span

    @property
    def readable(self) -> bool:
        """Whether its values are of a type, and in a form, that is read and written over here."""
        return self.span.encoding in _ENCODINGS.get(self.data_type, ())

    @property
    def dtype(self) -> torch.dtype:
        """Its element type; only where it is `readable`."""
        import torch

        return getattr(torch, DTYPES[self.data_type])

    @property
    def elements(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    @property
    def type_name(self) -> str:
        """Its element type as people write it."""
        name = TensorProto.DataType.Name(self.data_type).lower()
        return {"float": "float32", "double": "float64"}.get(name, name)

    def read(self) -> Tensor:
        """Its values, of its own type and shape.

        Raises:
            CorruptError: Its bytes are fewer or more than its shape and type say.
            InputOutputError: The file cannot be read.
        """
        import torch

        data = self._bytes()
        if self.span.encoding == "varint":
            data = _decoded(data, self.elements, self.dtype.itemsize, self._where)
        return torch.from_numpy(data).view(self.dtype).reshape(self.shape)

    def zeroed(self, kept: Bools) -> Bytes:
        """Its bytes as they are in the file, with positive zero wherever `kept` (its shape) is false."""
        data = self._bytes()
        if self.span.encoding == "varint":
            ends = data < 0x80
            element = np.cumsum(ends) - ends
            data[~kept.reshape(-1)[element]] &= 0x80  # still as many bytes: a zero written long, which readers accept
            return data
        values = data.reshape(self.elements, self.dtype.itemsize)
        values[~kept.reshape(-1)] = 0
        return data

    def _bytes(self) -> Bytes:
        """A fresh, writable copy of the bytes."""
        expected = self.elements * self.dtype.itemsize
        if self.span.encoding != "varint" and self.span.length != expected:
            raise CorruptError(
                f"{self._where}: expected {expected} bytes for shape {list(self.shape)} of {self.type_name}, "
                f"got {self.span.length}; export it again"
            )
        try:
            data = np.fromfile(self.path, np.uint8, self.span.length, offset=self.span.offset)
        except OSError as error:
            raise InputOutputError(f"{self.path}: expected a readable file, got: {error.strerror or error}") from error
        if len(data) < self.span.length:
            raise CorruptError(f"{self._where}: expected {self.span.length} bytes, got {len(data)}; export it again")
        return data

    @property
    def _where(self) -> str:
        return f"{self.path}: tensor {self.name!r}"


def stored_tensors(skeleton: Skeleton) -> dict[str, tuple[Stored | None, Any]]:
    """Every initializer and every Constant node's tensor, by the name that nodes read it by.

    Each comes with its proto, and as None where the file holds no run of bytes that are its values.

    Raises:
        CorruptError: A file of weights is named outside the graph's own folder, is missing, or is too short.
    """
    graph = skeleton.model.graph
    found: dict[str, tuple[Stored | None, Any]] = {}
    for index, tensor in enumerate(graph.initializer):
        found[tensor.name] = (_stored(skeleton, tensor, tensor.name, ("initializer", index, 0)), tensor)
    for index, node in enumerate(graph.node):
        for number, item in enumerate(node.attribute if node.op_type == "Constant" else ()):
            if item.name == "value" and item.HasField("t") and node.output:
                found[node.output[0]] = (_stored(skeleton, item.t, node.output[0], ("node", index, number)), item.t)
    return found


def external_files(skeleton: Skeleton) -> dict[str, Path]:
    """The files that hold tensors of a graph, or of graphs and functions within it, by the name it gives them.

    Raises:
        CorruptError: One is named outside the graph's own folder, is missing, or is too short.
    """
    files: dict[str, Path] = {}
    for tensor in all_tensors(skeleton.model):
        if tensor.data_location == TensorProto.EXTERNAL:
            path, _ = external_place(skeleton.path, tensor, tensor.name)
            files[next(entry.value for entry in tensor.external_data if entry.key == "location")] = path
    return files


def all_tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: of its graph, of graphs inside nodes, and of functions."""
    yield from _tensors_in(model.graph)
    for function in model.functions:
        yield from _tensors_in(function)


def _tensors_in(graph: Any) -> Iterator[Any]:
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for item in node.attribute:
            yield from (item.t, *item.tensors)
            for sparse in (item.sparse_tensor, *item.sparse_tensors):
                yield from (sparse.values, sparse.indices)
        for inner in subgraphs(node):
            yield from _tensors_in(inner)


def _stored(skeleton: Skeleton, tensor: Any, name: str, place: Place) -> Stored | None:
    if tensor.data_location == TensorProto.EXTERNAL:
        path, span = external_place(skeleton.path, tensor, name)
    elif place in skeleton.spans:
        path, span = skeleton.path, skeleton.spans[place]
    else:
        return None
    if any(size < 0 for size in tensor.dims):
        raise CorruptError(f"{skeleton.path}: tensor {name!r}: expected sizes of 0 or more, got {list(tensor.dims)}")
    return Stored(name, tensor.data_type, tuple(tensor.dims), path, span)


def external_place(graph_path: Path, tensor: Any, name: str) -> tuple[Path, Span]:
    """The file beside the graph that holds a tensor, and where in it; nothing outside the graph's folder is opened.

    Raises:
        CorruptError: The file is named outside the graph's own folder, is missing, or is too short.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{graph_path}: tensor {name!r}"
    location = entries.get("location", "")
    folder = graph_path.parent.resolve()
    path = folder / location
    inside = location and not Path(location).is_absolute() and path.resolve().is_relative_to(folder)
    if not inside or ".." in Path(location).parts:
        raise CorruptError(f"{where}: names the file {location!r} outside its own folder, which is refused")
    if not path.is_file():
        raise CorruptError(f"{where}: its values are in {path}, which is missing; put it beside the graph")
    size = path.stat().st_size
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", size - offset))
    except ValueError as error:
        raise CorruptError(f"{where}: expected an offset and a length in bytes, got {entries}") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise CorruptError(f"{where}: expected bytes {offset} to {offset + length} of {path}, which has {size}")
    return path, Span(offset, length, "raw")


def _decoded(data: Bytes, elements: int, itemsize: int, where: str) -> Bytes:
    """Values of `int32_data`: one varint each, its low bytes being the value."""
    ends = data < 0x80
    starts = np.concatenate(([True], ends[:-1])) if len(data) else ends
    first = np.flatnonzero(starts)
    if len(first) != elements or (len(data) and not ends[-1]):
        raise CorruptError(f"{where}: expected {elements} values, got {len(first)}; export it again")
    position = np.arange(len(data)) - np.repeat(first, np.diff(np.append(first, len(data))))
    if len(data) and int(position.max()) >= _LONGEST_VARINT:
        raise CorruptError(f"{where}: holds a number longer than any; export it again")
    parts = (data & 0x7F).astype(np.uint64) << (7 * position).astype(np.uint64)
    values = np.add.reduceat(parts, first) if elements else np.zeros(0, np.uint64)
    return np.ascontiguousarray(values.view(np.uint8).reshape(-1, 8)[:, :itemsize]).reshape(-1)
