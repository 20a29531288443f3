"""A small, strict reader of IDX, the format of MNIST and its kin (LeCun, Cortes & Burges, the MNIST page).

Big-endian: two zero bytes, a type (0x08 is uint8, the only one read here), the number of dimensions, each dimension as
uint32, then the values. Nothing in the bytes decides how much memory is taken: the caller says what it expects.
"""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import CorruptError

UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's way to say: expect a gzip header


def idx_size(shape: tuple[int, ...]) -> int:
    """Bytes that an IDX file of uint8 of this shape takes."""
    return 4 + 4 * len(shape) + prod(shape)


def parse_idx(data: bytes, *, shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """The array an IDX file holds, a read-only view of `data`.

    Args:
        data: The whole file, not compressed.
        shape: The shape it is expected to have.
        name: What errors call the file.

    Raises:
        CorruptError: The file is not IDX of uint8, has another shape, or its length is wrong.
    """
    header = bytes([0, 0, UINT8, len(shape)])
    if data[:4] != header:
        raise CorruptError(f"{name}: expected an IDX header {header.hex()}, got {data[:4].hex() or 'an empty file'}")
    start = 4 + 4 * len(shape)
    dimensions = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    if len(data) < start or dimensions != shape:
        raise CorruptError(f"{name}: expected dimensions {shape}, got {dimensions}")
    if len(data) != idx_size(shape):
        raise CorruptError(f"{name}: expected {idx_size(shape)} bytes, got {len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def gunzip(data: bytes, *, limit: int, name: str) -> bytes:
    """Decompress one gzip member of at most `limit` bytes; never makes more of it than that.

    Raises:
        CorruptError: The bytes are no whole gzip member, hold more than `limit`, or something follows.
    """
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise CorruptError(f"{name}: expected a gzip file, got damage: {error}") from None
    if len(content) > limit:
        raise CorruptError(f"{name}: expected at most {limit} bytes once decompressed, got more")
    if not inflate.eof:
        raise CorruptError(f"{name}: the gzip file ends early, after {len(content)} bytes of content")
    if inflate.unused_data:
        raise CorruptError(f"{name}: {len(inflate.unused_data)} bytes follow the end of the gzip file")
    return content
