"""An ONNX file: what it computes with, what it takes and gives, and what is zero in its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sparsify.data.preprocessing import Preprocessing
from sparsify.errors import CorruptError
from sparsify.pipeline.inspection.layers import layer, totals
from sparsify_export.runtimes.onnx_file import read_onnx
from sparsify_export.sparse.operators import Packed, damage, packed_weights
from sparsify_export.sparse.plan import KEY, stored_plan


def describe_onnx(path: Path) -> dict[str, Any]:
    """The document of an ONNX file, ours or another's; graphs inside nodes are counted too.

    Raises:
        InputOutputError: There is no such file.
        CorruptError: It cannot be read as ONNX, a file of weights beside it is missing or damaged, or packed weights of
            sparse operators are not what was written; names them.
    """
    model = read_onnx(path, weights=True)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    if faults := damage(graph):
        raise CorruptError("; ".join(f"{path}: packed weights {name}: {fault}" for name, fault in faults.items()))
    packed = packed_weights(graph)
    layers = [_packed_layer(name, one) for name, one in packed.items()]
    layers += [_layer(path, name, tensor) for name, tensor in _tensors(graph) if name not in packed]
    layers += [_sparse_layer(tensor) for tensor in graph.sparse_initializer]
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != KEY}
    return {
        "kind": "onnx",
        "path": str(path),
        "ir_version": model.ir_version,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "metadata": metadata,
        "preprocessing": _fed(path, metadata),
        "inputs": [_value(value) for value in graph.input if value.name not in stored],
        "outputs": [_value(value) for value in graph.output],
        "nodes": dict(sorted(Counter(node.op_type for node in _nodes(graph)).items())),
        "layers": layers,
        "plan": stored_plan(model.metadata_props),
        "totals": totals(layers),
        "weights": totals([one for one in layers if len(one["shape"]) >= 2]),
        "file_bytes": path.stat().st_size,
        "external_bytes": _external_bytes(path),
    }


def _fed(path: Path, metadata: Mapping[str, str]) -> str | None:
    """How the network is fed, where one of our exports says so."""
    found = Preprocessing.in_metadata(path, metadata)
    return None if found is None else found.told


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[tuple[str, Any]]:
    """Initializers, and constants of two axes or more, which some exporters keep weights in."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and len(attribute.t.dims) >= 2:
                yield node.output[0], attribute.t


def _layer(path: Path, name: str, tensor: Any) -> dict[str, Any]:
    dtype = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
    if tensor.data_type == onnx.TensorProto.STRING:
        return layer(name, dtype, tuple(tensor.dims), len(tensor.string_data))
    try:
        array = numpy_helper.to_array(tensor, str(path.parent))
    except (ValueError, TypeError, OSError) as error:
        raise CorruptError(
            f"{path}: initializer {name}: expected {dtype} of shape {list(tensor.dims)}: {error}"
        ) from error
    return layer(name, dtype, array.shape, int(np.count_nonzero(array)))


def _packed_layer(name: str, packed: Packed) -> dict[str, Any]:
    return layer(name, f"sparse {packed.precision}", (packed.rows, packed.columns), packed.kept)


def _sparse_layer(tensor: Any) -> dict[str, Any]:
    dtype = onnx.TensorProto.DataType.Name(tensor.values.data_type).lower()
    return layer(tensor.values.name, f"sparse {dtype}", tuple(tensor.dims), int(np.prod(tensor.values.dims)))


def _value(value: Any) -> dict[str, Any]:
    """Name, element type and shape of an input or output; a dimension is its size, its symbol or None."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "dtype": kind, "shape": None}
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_string(tensor.elem_type).removeprefix("TensorProto.").lower()
    return {"name": value.name, "dtype": dtype, "shape": shape if tensor.HasField("shape") else None}


def _external_bytes(path: Path) -> int:
    """Bytes of weights kept in files beside the graph."""
    graph = read_onnx(path, weights=False).graph
    files = {
        entry.value
        for tensor in graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum((path.parent / name).stat().st_size for name in files)
