"""An ONNX file's messages, read without its weights: a skeleton to look at, and where each tensor's bytes lie.

Zeros can then be written over the weights' own bytes, so whatever is not a weight stays the same to the last bit, and
no more than one tensor need be in memory. The encoding is https://protobuf.dev/programming-guides/encoding, the field
numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import onnx
from google.protobuf.message import DecodeError

from sparsify.errors import CorruptError, InputOutputError

Encoding: TypeAlias = Literal["raw", "float", "double", "varint"]
Place: TypeAlias = tuple[Literal["initializer", "node"], int, int]
"""Which initializer, or which node and attribute of it, of the graph; counted from 0."""

_MEND = "export it again, or check it with onnx.checker"
_GRAPH, _NODES, _INITIALIZERS, _ATTRIBUTES, _TENSOR = 7, 1, 5, 5, 5
_PAYLOADS: dict[int, Encoding] = {4: "float", 5: "varint", 9: "raw", 10: "double"}
_INLINE = 1024
"""Payloads of up to so many bytes stay in the skeleton: shapes, axes and scales are read from it."""
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


class Span(NamedTuple):
    """Where the bytes of a tensor lie in a file, and what they are."""

    offset: int
    length: int
    encoding: Encoding


@dataclass(frozen=True)
class Skeleton:
    """A graph without its large tensors' bytes."""

    path: Path
    model: onnx.ModelProto
    spans: dict[Place, Span]
    """Of every initializer and every tensor among the nodes' attributes whose bytes lie in the file itself."""


class _Field(NamedTuple):
    number: int
    wire_type: int
    start: int
    body: int
    end: int

    def is_message(self, number: int) -> bool:
        return self.number == number and self.wire_type == _LENGTH_DELIMITED


def read_skeleton(path: Path) -> Skeleton:
    """Read everything of an ONNX file but its weights.

    Raises:
        InputOutputError: There is no such file, or it cannot be read.
        CorruptError: It is no ONNX file.
    """
    if not path.is_file():
        raise InputOutputError(f"{path}: expected an ONNX file, found none; check the path")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            model = onnx.ModelProto.FromString(reader.model())
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise CorruptError(f"{path}: cannot be read as ONNX: {error}; {_MEND}") from error
    if not model.graph.node:
        raise CorruptError(f"{path}: expected an ONNX graph, got a file without nodes; {_MEND}")
    return Skeleton(path, model, reader.spans)


class _Reader:
    """Copies messages without large payloads, and notes where the payloads were."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.spans: dict[Place, Span] = {}

    def model(self) -> bytes:
        parts: list[bytes] = []
        graphs = 0
        for field in self._fields(0, len(self._data)):
            if not field.is_message(_GRAPH):
                parts.append(self._data[field.start : field.end])
                continue
            graphs += 1
            parts.append(_delimited(_GRAPH, self._graph(field)))
        if graphs > 1:
            raise ValueError("it holds its graph twice")
        return b"".join(parts)

    def _graph(self, graph: _Field) -> bytes:
        parts: list[bytes] = []
        nodes = initializers = 0
        for field in self._fields(graph.body, graph.end):
            if field.is_message(_NODES):
                parts.append(_delimited(_NODES, self._node(field, nodes)))
                nodes += 1
            elif field.is_message(_INITIALIZERS):
                parts.append(_delimited(_INITIALIZERS, self._tensor(field, ("initializer", initializers, 0))))
                initializers += 1
            else:
                parts.append(self._data[field.start : field.end])
        return b"".join(parts)

    def _node(self, node: _Field, index: int) -> bytes:
        parts: list[bytes] = []
        attributes = 0
        for field in self._fields(node.body, node.end):
            if field.is_message(_ATTRIBUTES):
                parts.append(_delimited(_ATTRIBUTES, self._attribute(field, ("node", index, attributes))))
                attributes += 1
            else:
                parts.append(self._data[field.start : field.end])
        return b"".join(parts)

    def _attribute(self, attribute: _Field, place: Place) -> bytes:
        parts: list[bytes] = []
        for field in self._fields(attribute.body, attribute.end):
            if field.is_message(_TENSOR):
                parts.append(_delimited(_TENSOR, self._tensor(field, place)))
            else:
                parts.append(self._data[field.start : field.end])
        return b"".join(parts)

    def _tensor(self, tensor: _Field, place: Place) -> bytes:
        parts: list[bytes] = []
        for field in self._fields(tensor.body, tensor.end):
            if field.number in _PAYLOADS and field.wire_type == _LENGTH_DELIMITED:
                if place in self.spans:
                    raise ValueError(f"{place[0]} {place[1]} holds its values twice")
                self.spans[place] = Span(field.body, field.end - field.body, _PAYLOADS[field.number])
                if field.end - field.body > _INLINE:
                    continue
            parts.append(self._data[field.start : field.end])
        return b"".join(parts)

    def _fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of the message at [start, end); ValueError where they do not fill it exactly."""
        at = start
        while at < end:
            tag, body = self._varint(at, end)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == 0:
                _, stop = self._varint(body, end)
            elif wire_type == _LENGTH_DELIMITED:
                length, body = self._varint(body, end)
                stop = body + length
            elif wire_type in _FIXED:
                stop = body + _FIXED[wire_type]
            else:
                raise ValueError(f"byte {at} begins no field that ONNX has")
            if stop > end or number == 0:
                raise ValueError(f"the field at byte {at} does not fit its message")
            yield _Field(number, wire_type, at, body, stop)
            at = stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise ValueError(f"the file ends within a number, at byte {at}")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError(f"the number that ends at byte {at} is longer than any")


def _delimited(number: int, body: bytes) -> bytes:
    return _encoded(number << 3 | _LENGTH_DELIMITED) + _encoded(len(body)) + body


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs inside a node: branches of an If, bodies of a Loop or Scan."""
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs
