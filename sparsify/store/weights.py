"""Tensors on disk as safetensors: deterministic bytes, nothing that runs, and a digest of its own inside.

The writer is ours because the library's orders metadata by a hash that differs from process to process, and has no
checksum: a flipped bit of the payload loads unseen. Any safetensors reader reads the files.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.atomic import write_chunks
from sparsify.store.digest import canonical_json

_METADATA = "__metadata__"
CHECKSUM = "sha256"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, from any device, as one safetensors file, atomically; equal input gives equal bytes.

    Raises:
        UsageError: A dtype or a name that safetensors files of ours do not hold.
        InputOutputError: Disk full, no permission and the like; nothing was replaced.
    """
    # Widest elements first keeps every tensor aligned, which readers that map the file into memory rely on.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    payload = [_raw_bytes(tensors[name]) for name in order]
    header: dict[str, Any] = {}
    end = 0
    for name, raw in zip(order, payload, strict=True):
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise UsageError(f"{path}: {name}: expected one of {sorted(_DTYPES.values())}, got {tensor.dtype}")
        start, end = end, end + len(raw)
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    if _METADATA in header:
        raise UsageError(f"{path}: expected no tensor named {_METADATA}, which the format reserves; rename it")
    header[_METADATA] = dict(metadata or {})
    header[_METADATA][CHECKSUM] = checksum(header, payload)
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    write_chunks(path, [len(text).to_bytes(8, "little"), text, *payload])


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, ours or another's, onto the CPU.

    Raises:
        CorruptError: The file is no safetensors file, or it carries our checksum and was changed.
        InputOutputError: The file is absent or cannot be read.
    """
    return read_tensors(path)[0]


def read_tensors(path: Path, *, ours: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `load_tensors`, with the file's metadata; `ours` refuses a file that lacks our checksum."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputOutputError(f"{path}: expected a safetensors file, got: {error.strerror or error}") from error
    try:
        tensors = parse_safetensors(data)
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        metadata: dict[str, str] = header.get(_METADATA, {})
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CorruptError(f"{path}: expected a safetensors file, got damaged bytes ({error})") from error
    expected = metadata.pop(CHECKSUM, None)
    if (ours or expected is not None) and expected != checksum(header, [memoryview(data)[start:]]):
        raise CorruptError(f"{path}: changed since it was written: its contents do not match its own checksum")
    return {name: tensors[name] for name in sorted(tensors)}, metadata


def _raw_bytes(tensor: Tensor) -> memoryview:
    """The elements in C order; safetensors is little-endian, as is every machine that torch ships for."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def checksum(header: Mapping[str, Any], payload: Iterable[memoryview]) -> str:
    """SHA-256 over the header without the checksum itself, then the payload."""
    state = hashlib.sha256(canonical_json(header))
    for chunk in payload:
        state.update(chunk)
    return state.hexdigest()
