"""Files of tensors: every layer, what is zero in it, and what the whole weighs masked and packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsify.pipeline.inspection.layers import layer, totals
from sparsify.store.network_weights import load_packed
from sparsify.store.packed import masked_bytes, packed_bytes
from sparsify.store.weights import read_tensors


def describe_safetensors(path: Path) -> dict[str, Any]:
    """The document of a .safetensors file, ours or another's. Raises `CorruptError`, `InputOutputError`."""
    tensors, metadata = read_tensors(path)
    return _document(path, tensors) | {"metadata": metadata}


def describe_packed(path: Path) -> dict[str, Any]:
    """The document of a packed file. Raises `CorruptError` naming the file, `InputOutputError`."""
    return _document(path, load_packed(path), packed=path.stat().st_size) | {"metadata": {}}


def layers_of(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row for each tensor, in order of name."""
    return [
        layer(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), int(tensor.count_nonzero()))
        for name, tensor in sorted(tensors.items())
    ]


def weights_among(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that could be pruned: masks, and floating-point tensors of two axes or more."""
    return [one for one in layers if one["dtype"] == "bool" or (len(one["shape"]) >= 2 and "float" in one["dtype"])]


def sizes_of_state(tensors: Mapping[str, Tensor], packed: int | None = None) -> dict[str, int | None]:
    """Bytes masked and packed, where those are not known; the shrunk size needs a network, not only its tensors."""
    return {
        "masked": masked_bytes(tensors),
        "packed": packed_bytes(tensors) if packed is None else packed,
        "shrunk": None,
    }


def _document(path: Path, tensors: Mapping[str, Tensor], packed: int | None = None) -> dict[str, Any]:
    layers = layers_of(tensors)
    mask_only = all(one["dtype"] == "bool" for one in layers)
    return {
        "kind": "tensors",
        "path": str(path),
        "layers": layers,
        "totals": totals(layers),
        "weights": totals(weights_among(layers)),
        "sizes_bytes": None if mask_only else sizes_of_state(tensors, packed),
        "file_bytes": path.stat().st_size,
    }
