"""The operators' names, which graphs have them, and what their packed weights say of themselves."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from onnx import ModelProto

from sparsify.errors import SparsifyError
from sparsify_export.pruning.wire import read_skeleton

DOMAIN, VERSION = "sparsify", 1
LINEAR, CONV = "SparseLinear", "SparseConv"

_PRECISIONS = ("f32", "f16", "bf16", "i8")
# The beginning of the header that sparsify_kernels/packing.py writes, which need not be installed to look at a file.
_HEADER = struct.Struct("<8sHBBIIIQ")
_MAGIC = b"SPSFYWT\0"


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
    read = {node.input[1] for node in graph.node if node.domain == DOMAIN and len(node.input) > 1}
    found: dict[str, Packed] = {}
    for tensor in graph.initializer:
        data = tensor.raw_data[: _HEADER.size] if tensor.name in read else b""
        if len(data) < _HEADER.size:
            continue
        magic, _, precision, _, rows, columns, _, kept = _HEADER.unpack(data)
        if magic == _MAGIC and precision < len(_PRECISIONS) and kept <= len(tensor.raw_data):
            found[tensor.name] = Packed(_PRECISIONS[precision], rows, columns, kept)
    return found
