"""The operators' names, which graphs have them, what their packed weights say of themselves, and whether it is true."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from onnx import ModelProto

from sparsify.errors import SparsifyError
from sparsify_export.pruning.wire import read_skeleton

DOMAIN, VERSION = "sparsify", 1
LINEAR, CONV, ATTENTION = "SparseLinear", "SparseConv", "Attention"
_PACKED = LINEAR, CONV
"""Operators whose input 1 is packed weights."""

_PRECISIONS = ("f32", "f16", "bf16", "i8")
# The beginning of the header that sparsify_kernels/packing.py writes, which need not be installed to look at a file.
_HEADER = struct.Struct("<8sHBBIIIQ6QIIQ")
_MAGIC, _FORMATS = b"SPSFYWT\0", (1, 2)
_HEADER_CRC = 84
"""Where the CRC-32 of the rest of the header lies; version 1 had 0 there."""


@dataclass(frozen=True)
class Packed:
    """The weights of one sparse operator."""

    precision: str
    rows: int
    columns: int
    kept: int
    """Values stored, with the zeros inside kept blocks."""


def are_used_by(model: Path | bytes) -> bool:
    """Whether a graph has operators of our domain. What cannot be read is left to ONNX Runtime to complain of."""
    try:
        proto = ModelProto.FromString(model) if isinstance(model, bytes) else read_skeleton(model).model
    except (DecodeError, SparsifyError):
        return False
    return any(entry.domain == DOMAIN for entry in proto.opset_import)


def packed_weights(graph: Any) -> dict[str, Packed]:
    """By initializer, the weights of the graph's sparse operators; bytes that are no such weights are left out."""
    read = {node.input[1] for node in _packed(graph)}
    found: dict[str, Packed] = {}
    for tensor in graph.initializer:
        data = tensor.raw_data[: _HEADER.size] if tensor.name in read else b""
        if len(data) < _HEADER.size:
            continue
        magic, _, precision, _, rows, columns, _, kept, *_ = _HEADER.unpack(data)
        if magic == _MAGIC and precision < len(_PRECISIONS) and kept <= len(tensor.raw_data):
            found[tensor.name] = Packed(_PRECISIONS[precision], rows, columns, kept)
    return found


def damage(graph: Any) -> dict[str, str]:
    """By initializer, what is wrong with the packed weights of the graph's sparse operators; empty where nothing is."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    read = [node for node in _packed(graph) if node.input[1] in stored]
    faults = {node.input[1]: _fault(stored[node.input[1]].raw_data, node) for node in read}
    return {name: fault for name, fault in faults.items() if fault}


def _packed(graph: Any) -> list[Any]:
    """The nodes that read packed weights."""
    ours = (node for node in graph.node if node.domain == DOMAIN and node.op_type in _PACKED)
    return [node for node in ours if len(node.input) > 1]


def _fault(data: bytes, node: Any) -> str:
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return "expected packed weights, got bytes that begin otherwise"
    head = data[: _HEADER.size]
    _, version, _, _, rows, columns, _, _, *_, crc, header_crc, total = _HEADER.unpack(head)
    if version not in _FORMATS:
        return f"expected version {' or '.join(map(str, _FORMATS))} of the format, got {version}; use a newer release"
    if header_crc != (zlib.crc32(head[_HEADER_CRC + 4 :], zlib.crc32(head[:_HEADER_CRC])) if version > 1 else 0):
        return "expected the header that was written, got a changed one: its CRC-32 does not match"
    if total != len(data):
        return f"expected {total} bytes, got {len(data)}"
    if zlib.crc32(memoryview(data)[_HEADER.size :]) != crc:
        return "expected the bytes that were written, got changed ones: the CRC-32 does not match"
    asked = {attribute.name: attribute.i for attribute in node.attribute}
    if (rows, columns) != (asked.get("rows"), asked.get("columns")):
        return f"expected {asked.get('rows')} rows and {asked.get('columns')} columns, got {rows} and {columns}"
    return ""
