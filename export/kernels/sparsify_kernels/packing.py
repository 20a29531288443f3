"""A weight matrix as the operators read it: one array of bytes, `pack`ed and `unpack`ed. NumPy only.

The blob, little-endian; sections begin at multiples of 64 bytes, in this order, and gaps are zero. A section without
bytes has offset 0.

    0   8 bytes  magic, "SPSFYWT" and a zero
    8   u16      version, 2
    10  u8       precision: 0 f32, 1 f16, 2 bf16, 3 i8
    11  u8       pattern: 0 dense, 1 unstructured, 2 block_1x4, 3 rows_16, 4 rows_32
    12  u32      rows              16  u32  columns            20  u32  flags, 0
    24  u64      kept: values stored, with the zeros inside kept blocks
    32  u64 u64  offset and bytes of the mask
    48  u64 u64  offset and bytes of the values
    64  u64 u64  offset and bytes of the scales
    80  u32      CRC-32 (zlib's) of the bytes from 96 to the end
    84  u32      CRC-32 of the rest of this header: of the bytes before these four, then of those after them
    88  u64      bytes in total
    96           the sections

Version 1, which is still read, has 0 at 84.

A pattern says which weights share a bit of the mask: one weight, four consecutive columns of a row, or one column of 16
or 32 consecutive rows; `dense` has no mask. The mask holds 64-bit words, rows of blocks one after the other, the lowest
bit first; bits past the end are zero. Values are those of the kept blocks in the mask's order, and those of one block
in the order of rows, then columns; places past the matrix's end are zero. Scales are one float32 a row, for i8 only.
The other reader is native/weights.cpp.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Precision: TypeAlias = Literal["f32", "f16", "bf16", "i8"]
Pattern: TypeAlias = Literal["dense", "unstructured", "block_1x4", "rows_16", "rows_32"]
Blob: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
MAGIC, VERSION = b"SPSFYWT\0", 2
UNSEALED = 1
"""The version before, whose headers no CRC covers."""
LARGEST = 1 << 30
"""Most rows, and most columns."""
LARGEST_BYTES = 1 << 34
"""Most bytes that `unpack` makes unless it is told otherwise: a few bytes can claim a large matrix of zeros."""

_HEADER = struct.Struct("<8sHBBIIIQ6QIIQ")
_HEADER_CRC = 84
_ALIGNMENT = 64
_BLOCKS: dict[Pattern, tuple[int, int]] = {
    "dense": (1, 1),
    "unstructured": (1, 1),
    "block_1x4": (1, 4),
    "rows_16": (16, 1),
    "rows_32": (32, 1),
}
_STORED: dict[Precision, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
    "i8": np.dtype("i1"),
}


class FormatError(ValueError):
    """A matrix that the format cannot hold, or bytes that are no blob; says what was expected and what came."""


@dataclass(frozen=True)
class Header:
    """What a blob says of itself."""

    precision: Precision
    pattern: Pattern
    rows: int
    columns: int
    kept: int
    """Values stored, with the zeros inside kept blocks."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that share one bit."""
        return _BLOCKS[self.pattern]

    @property
    def mask_shape(self) -> tuple[int, int]:
        """Rows of blocks, and blocks in each."""
        height, width = self.block
        return -(-self.rows // height), -(-self.columns // width)

    def sections(self) -> tuple[tuple[int, int], ...]:
        """Offset and bytes of mask, values and scales: they follow from the rest."""
        mask_rows, mask_bits = self.mask_shape
        sizes = (
            0 if self.pattern == "dense" else mask_rows * -(-mask_bits // 64) * 8,
            self.kept * _STORED[self.precision].itemsize,
            self.rows * 4 if self.precision == "i8" else 0,
        )
        found: list[tuple[int, int]] = []
        end = _HEADER.size
        for size in sizes:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            found.append((start, size) if size else (0, 0))
            end = start + size if size else end
        return tuple(found)

    @property
    def bytes(self) -> int:
        """Of the whole blob."""
        return max(_HEADER.size, *(start + size for start, size in self.sections()))


def pack(dense: NDArray[Any], *, precision: Precision = "f32", pattern: Pattern = "unstructured") -> Blob:
    """The blob (bytes,) of a matrix (rows, columns).

    Values are rounded to nearest, ties to even; a value that rounds to zero is not stored. i8 is symmetric by row:
    weight = integer * scale, scale = largest magnitude of the row / 127.

    Args:
        dense: Finite numbers; row r, column c multiplies input c for output r.
        precision: How a value is stored.
        pattern: Which weights share a bit; a block is kept whole where any of it is not zero.

    Raises:
        FormatError: Not such a matrix, or a value too large for the precision.
    """
    matrix = _checked(dense)
    if precision not in PRECISIONS or pattern not in PATTERNS:
        raise FormatError(
            f"expected a precision among {', '.join(PRECISIONS)} and a pattern among {', '.join(PATTERNS)}, got "
            f"{precision!r} and {pattern!r}"
        )
    scales = np.abs(matrix).max(axis=1) / np.float32(127) if precision == "i8" else np.zeros(0, np.float32)
    stored = _rounded(matrix, precision, scales)
    blocks = _blocks(stored, _BLOCKS[pattern])
    # The sign of a zero is not kept, and bf16 lies here as bits.
    zero_free = blocks & 0x7FFF if precision == "bf16" else blocks
    kept = np.ones(blocks.shape[:2], bool) if pattern == "dense" else (zero_free != 0).any(axis=2)
    values = blocks.reshape(-1) if pattern == "dense" else blocks[kept].reshape(-1)
    header = Header(precision, pattern, matrix.shape[0], matrix.shape[1], values.size)
    return _sealed(header, (_mask_words(kept), values, scales.astype("<f4")))


def read_header(blob: Blob) -> Header:
    """What the blob says of itself, every field checked; the sections are not read.

    Raises:
        FormatError: It is no blob of this version.
    """
    data = np.asarray(blob)
    if data.dtype != np.uint8 or data.ndim != 1 or data.size < _HEADER.size:
        raise FormatError(
            f"expected an array of at least {_HEADER.size} bytes, got {data.dtype} of shape {list(data.shape)}"
        )
    head = data[: _HEADER.size].tobytes()
    magic, version, precision, pattern, rows, columns, flags, kept, *rest = _HEADER.unpack(head)
    if magic != MAGIC or version not in (UNSEALED, VERSION):
        raise FormatError(
            f"expected {MAGIC!r} of version {UNSEALED} or {VERSION}, got {magic!r} of version {version}; read it with "
            "a newer release"
        )
    if rest[7] != (_header_crc(head) if version == VERSION else 0):
        raise FormatError("expected the header that was written, got another: the CRC-32 does not match")
    if precision >= len(PRECISIONS) or pattern >= len(PATTERNS) or flags:
        raise FormatError("expected known precision, pattern and flags, got others; read it with a newer release")
    if not 0 < rows <= LARGEST or not 0 < columns <= LARGEST:
        raise FormatError(f"expected 1 to {LARGEST} rows and columns, got {rows} and {columns}")
    header = Header(PRECISIONS[precision], PATTERNS[pattern], rows, columns, kept)
    told = tuple(zip(rest[0:6:2], rest[1:6:2], strict=True))
    if told != header.sections() or not rest[8] == header.bytes == data.size:
        raise FormatError(
            f"expected sections {header.sections()} in {header.bytes} bytes, got {told} in {rest[8]}, of which "
            f"{data.size} are there"
        )
    return header


def unpack(blob: Blob, *, largest: int = LARGEST_BYTES) -> Floats:
    """The matrix (rows, columns) of a blob: the inverse of `pack`, i8 multiplied by its scales.

    Args:
        blob: Bytes from anywhere: nothing in them is trusted.
        largest: Most bytes to make of them.

    Raises:
        FormatError: It is no blob, was changed, or would be larger than `largest`.
    """
    header = read_header(blob)
    if header.rows * header.columns * 4 > largest:
        raise FormatError(f"expected a matrix of up to {largest} bytes, got {header.rows}x{header.columns}")
    data = np.ascontiguousarray(blob)
    (crc,) = struct.unpack_from("<I", data[80:84].tobytes())
    if zlib.crc32(data[_HEADER.size :].data) != crc:
        raise FormatError("expected the bytes that were written, got others: the CRC-32 does not match")
    mask_at, values_at, scales_at = (data[start : start + size] for start, size in header.sections())
    values = values_at.view(_STORED[header.precision])
    scales = scales_at.view("<f4")
    blocks = _placed(header, mask_at, values)
    height, width = header.block
    rows, bits = header.mask_shape
    stored = blocks.reshape(rows, bits, height, width).swapaxes(1, 2).reshape(rows * height, bits * width)
    bits_stored = stored.view(f"u{stored.itemsize}")  # a negative zero counts as another value
    if bits_stored[header.rows :].any() or bits_stored[:, header.columns :].any():
        raise FormatError("expected zeros past the matrix's end, got other values")
    return _restored(stored[: header.rows, : header.columns], header.precision, scales)


def _checked(dense: NDArray[Any]) -> Floats:
    given = np.asarray(dense)
    if given.ndim != 2 or given.dtype.kind != "f" or not all(0 < size <= LARGEST for size in given.shape):
        raise FormatError(
            f"expected floats of shape [rows, columns], each 1 to {LARGEST}, got {given.dtype} of shape "
            f"{list(given.shape)}"
        )
    matrix = np.ascontiguousarray(given, np.float32)
    if not np.isfinite(matrix).all():
        raise FormatError("expected finite weights, got some that are not")
    return matrix


def _rounded(matrix: Floats, precision: Precision, scales: Floats) -> NDArray[Any]:
    """The matrix in the type it is stored in; bf16 as the upper half of float32's bits."""
    if precision == "f32":
        return matrix
    if precision == "i8":
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            integers = np.rint(matrix / scales[:, None])
            finite = bool(np.isfinite(scales * np.float32(127)).all())
        # A row of zeros has scale 0; a scale that is barely a number may round so that a quotient passes 127.
        integers[scales == 0] = 0
        rounded: NDArray[Any] = np.clip(integers, -127, 127).astype(np.int8)
    elif precision == "f16":
        with np.errstate(over="ignore"):
            rounded = matrix.astype("<f2")
        finite = bool(np.isfinite(rounded).all())
    else:
        bits = matrix.view(np.uint32)
        rounded = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16).astype("<u2")
        finite = bool(((rounded & 0x7F80) != 0x7F80).all())
    if not finite:
        raise FormatError(f"expected weights that {precision} can hold, got one as large as {np.abs(matrix).max():.3g}")
    return rounded


def _restored(stored: NDArray[Any], precision: Precision, scales: Floats) -> Floats:
    widened = (stored.astype(np.uint32) << 16).view(np.float32) if precision == "bf16" else stored
    matrix = widened.astype(np.float32)
    with np.errstate(over="ignore"):
        largest = scales * np.float32(127)
    sound = np.isfinite(matrix).all() and (np.isfinite(largest) & (scales >= 0)).all()
    if not sound or (precision == "i8" and (stored == -128).any()):
        raise FormatError("expected finite values, scales of 0 or more, and integers from -127 to 127, got others")
    return matrix * scales[:, None] if precision == "i8" else matrix


def _blocks(stored: NDArray[Any], block: tuple[int, int]) -> NDArray[Any]:
    """(rows of blocks, blocks a row, values a block), with zeros past the end."""
    height, width = block
    rows, columns = stored.shape
    if rows % height or columns % width:
        stored = np.pad(stored, ((0, -rows % height), (0, -columns % width)))
    parts = stored.reshape(stored.shape[0] // height, height, stored.shape[1] // width, width)
    return parts.swapaxes(1, 2).reshape(parts.shape[0], parts.shape[2], height * width)


def _mask_words(kept: NDArray[np.bool_]) -> Blob:
    """The mask's bytes, each row filled up to whole 64-bit words."""
    packed = np.packbits(kept, axis=1, bitorder="little")
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).reshape(-1)


def _placed(header: Header, mask: Blob, values: NDArray[Any]) -> NDArray[Any]:
    """Every block (rows of blocks * blocks a row, values a block), those not kept zero."""
    rows, bits = header.mask_shape
    size = header.block[0] * header.block[1]
    if header.pattern == "dense":
        if values.size != rows * bits:
            raise FormatError(f"expected {rows * bits} values of a dense matrix, got {values.size}")
        return values.reshape(-1, 1)
    unpacked = np.unpackbits(mask.reshape(rows, -1), axis=1, bitorder="little").view(bool)
    kept = unpacked[:, :bits].reshape(-1)
    if unpacked[:, bits:].any() or int(kept.sum()) * size != values.size:
        raise FormatError(f"expected a mask of {values.size} values, got one of {int(unpacked.sum()) * size}")
    blocks = np.zeros((rows * bits, size), values.dtype)
    blocks[kept] = values.reshape(-1, size)
    return blocks


def _sealed(header: Header, parts: tuple[NDArray[Any], ...]) -> Blob:
    """Header and sections in one array."""
    blob = np.zeros(header.bytes, np.uint8)
    for (start, size), part in zip(header.sections(), parts, strict=True):
        if size:
            blob[start : start + size] = part.view(np.uint8)
    offsets = [number for section in header.sections() for number in section]
    fields = (PRECISIONS.index(header.precision), PATTERNS.index(header.pattern), header.rows, header.columns, 0)
    crc = zlib.crc32(blob[_HEADER.size :].data)
    head = bytearray(_HEADER.pack(MAGIC, VERSION, *fields, header.kept, *offsets, crc, 0, header.bytes))
    struct.pack_into("<I", head, _HEADER_CRC, _header_crc(head))
    blob[: _HEADER.size] = np.frombuffer(head, np.uint8)
    return blob


def _header_crc(head: bytes | bytearray) -> int:
    return zlib.crc32(head[_HEADER_CRC + 4 :], zlib.crc32(head[:_HEADER_CRC]))
