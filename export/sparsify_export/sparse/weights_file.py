"""Where the weights go that stay dense: into the graph's own file, or, beyond what one file can hold, beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model

from sparsify.errors import UsageError
from sparsify.store.atomic import write_chunks
from sparsify_export.onnx_check import LARGEST
from sparsify_export.pruning.tensors import all_tensors, external_place
from sparsify_export.pruning.wire import Span
from sparsify_export.pruning.writing import between

_ALIGNED = 4096
"""ONNX Runtime maps tensors that begin at a page into memory, and reads others."""


def gather(model: onnx.ModelProto, source: Path) -> bool:
    """Read the weights that lie beside `source` into the graph, if one file can hold it then; says whether it can.

    Raises:
        UsageError: What lies inside already is too much.
    """
    inside = model.ByteSize()
    if inside > LARGEST:
        raise UsageError(f"{source}: expected packed weights under 2 GB, which one file holds, got {inside} bytes")
    outside = sum(span.length for _, _, span in _outside(model, source))
    if inside + outside > LARGEST:
        return False
    load_external_data_for_model(model, str(source.parent))
    return True


def write_beside(model: onnx.ModelProto, source: Path, out: Path) -> Path:
    """Copy the weights that lie beside `source` into one file beside `out`, which the graph then names; returns it."""
    beside = out.with_name(f"{out.stem}.weights")
    places = list(_outside(model, source))

    def chunks() -> Iterator[bytes]:
        at = 0
        for tensor, path, span in places:
            at += (padding := -at % _ALIGNED)
            yield bytes(padding)
            yield from between(path, span.offset, span.offset + span.length)
            del tensor.external_data[:]
            for key, value in (("location", beside.name), ("offset", str(at)), ("length", str(span.length))):
                tensor.external_data.add(key=key, value=value)
            at += span.length

    write_chunks(beside, chunks())
    return beside


def _outside(model: onnx.ModelProto, source: Path) -> Iterator[tuple[onnx.TensorProto, Path, Span]]:
    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor, *external_place(source, tensor, tensor.name)
