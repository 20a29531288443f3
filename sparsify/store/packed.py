"""Tensors packed for storage, so that zeros take no space.

The packed format keeps every bit (-0.0, NaN payloads, any dtype): a bitmask of the elements whose bits are not all
zero, and those elements' bytes, shuffled so that equal positions of all elements lie together; both zstd. A Gaussian
layer of 768x768 takes at 90% sparsity .092 to .096 of dense fp32 where the largest weights are kept, by its scale, and
.101 to .102 where chance chose them: the entropy of mask and byte planes is then .098.
Layout, little-endian:

    8 bytes  magic "SPKTICKT"       4 bytes  length of the header
    header   canonical JSON: version, tensors [[name, dtype, shape, kept]...] by name, masks, values (byte lengths)
    masks    zstd: one bit an element, most significant first, each tensor from a fresh byte
    values   zstd: the kept elements of the tensors, grouped by element size, bytes shuffled within a group
    32 bytes SHA-256 of all that comes before
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from torch import Tensor

from sparsify.errors import CorruptError, UsageError
from sparsify.store.digest import canonical_json

MAGIC = b"SPKTICKT"
VERSION = 1
LARGEST = 1 << 33
"""Most bytes `unpack` will produce unless told otherwise."""
# Masks are a 32nd of fp32 and are worth the effort: 10% less than at level 9. Values hardly shrink by more of it: dense
# ones by 0.7% from level 9 to 19, a pruned tenth by 1%, for 33 and 18 times the processor time.
_MASK_LEVEL, _VALUE_LEVEL = 19, 9
_HEADER_LIMIT = 1 << 24
_DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Bytes = NDArray[np.uint8]


class _Entry(NamedTuple):
    """One tensor's place in the packed file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    kept: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def masked_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of all values, zeros included."""
    return sum(tensor.nbytes for tensor in state.values())


def packed_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of the packed format."""
    return len(pack(state))


def pack(state: Mapping[str, Tensor]) -> bytes:
    """Tensors as packed bytes; equal tensors give equal bytes.

    Raises:
        UsageError: A dtype that the format does not hold.
    """
    entries: list[_Entry] = []
    masks: list[bytes] = []
    kept: dict[int, list[Bytes]] = {}
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        if tensor.dtype not in _NAMES:
            raise UsageError(f"{name}: expected one of {', '.join(_DTYPES)}, got {tensor.dtype}; convert it first")
        rows = tensor.reshape(-1).view(torch.uint8).numpy().reshape(-1, tensor.element_size())
        mask = rows.any(axis=1)
        entries.append(_Entry(name, tensor.dtype, tuple(tensor.shape), int(mask.sum())))
        masks.append(np.packbits(mask).tobytes())
        kept.setdefault(tensor.element_size(), []).append(rows[mask])
    values = b"".join(np.concatenate(kept[width]).T.tobytes() for width in sorted(kept))
    return _seal(entries, zstandard.compress(b"".join(masks), _MASK_LEVEL), zstandard.compress(values, _VALUE_LEVEL))


def unpack(data: bytes, *, largest: int = LARGEST) -> dict[str, Tensor]:
    """The tensors of `pack`, bit for bit, sorted by name.

    Args:
        data: Packed bytes, from anywhere: nothing in them is trusted, and nothing in them can run.
        largest: Most bytes to produce.

    Raises:
        CorruptError: The bytes were changed, are no packed file, or would unpack to more than `largest`.
    """
    entries, masks, values = _open(data)
    if sum(entry.elements * entry.dtype.itemsize for entry in entries) > largest:
        raise CorruptError(f"packed tensors: expected up to {largest} bytes, got more; unpack with a larger `largest`")
    mask_bytes = _decompress(masks, sum(_mask_length(entry) for entry in entries))
    value_bytes = _decompress(values, sum(entry.kept * entry.dtype.itemsize for entry in entries))
    rows = _unshuffle(entries, value_bytes)
    tensors: dict[str, Tensor] = {}
    at = 0
    for entry in entries:
        bits = np.frombuffer(mask_bytes, np.uint8, _mask_length(entry), at)
        at += _mask_length(entry)
        tensors[entry.name] = _tensor(entry, bits, rows[entry.name])
    return tensors


def _seal(entries: Sequence[_Entry], masks: bytes, values: bytes) -> bytes:
    listed = [[e.name, _NAMES[e.dtype], list(e.shape), e.kept] for e in entries]
    header = canonical_json({"version": VERSION, "tensors": listed, "masks": len(masks), "values": len(values)})
    body = MAGIC + len(header).to_bytes(4, "little") + header + masks + values
    return body + hashlib.sha256(body).digest()


def _open(data: bytes) -> tuple[list[_Entry], bytes, bytes]:
    """Header and the two compressed parts, checked against the digest and against each other."""
    if data[:8] != MAGIC:
        raise CorruptError(f"packed tensors: expected bytes that begin with {MAGIC!r}, got {data[:8]!r}")
    if len(data) < 44 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise CorruptError("packed tensors: changed or cut short since they were written: the SHA-256 does not match")
    end = 12 + int.from_bytes(data[8:12], "little")
    if end - 12 > _HEADER_LIMIT or end > len(data) - 32:
        raise CorruptError("packed tensors: the header is longer than the file or than any header we write")
    try:
        header: Any = json.loads(data[12:end])
        version, masks, values = header["version"], header["masks"], header["values"]
        entries = [_entry(row) for row in header["tensors"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(f"packed tensors: expected a header as `pack` writes it, got one with {error!r}") from error
    if version != VERSION:
        raise CorruptError(f"packed tensors: expected version {VERSION}, got {version!r}; unpack with a newer release")
    sound = _natural(masks) and _natural(values) and end + masks + values == len(data) - 32
    if not sound or len({entry.name for entry in entries}) < len(entries):
        raise CorruptError("packed tensors: the header's lengths or names contradict each other")
    return entries, data[end : end + masks], data[end + masks : -32]


def _entry(row: Any) -> _Entry:
    name, dtype, shape, kept = cast("list[Any]", row)
    entry = _Entry(name, _DTYPES[dtype], tuple(shape), kept)
    if not isinstance(name, str) or not all(map(_natural, entry.shape)) or not _natural(kept) or kept > entry.elements:
        raise ValueError(f"tensor {name!r} of impossible shape {shape!r} or count {kept!r}")
    return entry


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _mask_length(entry: _Entry) -> int:
    return -(-entry.elements // 8)


def _decompress(data: bytes, expected: int) -> bytes:
    """Decompress exactly `expected` bytes, never allocating for more."""
    try:
        if zstandard.frame_content_size(data) != expected:
            raise CorruptError("packed tensors: a compressed part is not of the length its header implies")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=max(expected, 1))
    except zstandard.ZstdError as error:
        raise CorruptError(f"packed tensors: expected zstd data, got: {error}") from error


def _unshuffle(entries: Sequence[_Entry], values: bytes) -> dict[str, Bytes]:
    """For each tensor its kept elements as rows of bytes (kept, itemsize)."""
    rows: dict[str, Bytes] = {}
    at = 0
    for width in sorted({entry.dtype.itemsize for entry in entries}):
        members = [entry for entry in entries if entry.dtype.itemsize == width]
        total = sum(entry.kept for entry in members)
        block = np.frombuffer(values, np.uint8, total * width, at).reshape(width, total).T
        at += total * width
        starts = np.cumsum([0, *(entry.kept for entry in members)])
        for entry, start in zip(members, starts, strict=False):
            rows[entry.name] = block[start : start + entry.kept]
    return rows


def _tensor(entry: _Entry, bits: Bytes, kept: Bytes) -> Tensor:
    mask = np.unpackbits(bits, count=entry.elements).astype(bool)
    if int(mask.sum()) != entry.kept:
        raise CorruptError(f"packed tensors: {entry.name}: mask and header disagree on how many values are kept")
    if entry.dtype == torch.bool and (kept > 1).any():
        raise CorruptError(f"packed tensors: {entry.name}: expected booleans, got other bytes")
    full = np.zeros((entry.elements, entry.dtype.itemsize), np.uint8)
    full[mask] = kept
    return torch.from_numpy(full.reshape(-1)).view(entry.dtype).reshape(entry.shape)
