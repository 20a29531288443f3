"""Blobs with wrong fields, given to the library: an error, never a crash, and never another verdict than `unpack`'s."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from sparsify_kernels import SparseLinear, native
from sparsify_kernels.packing import PATTERNS, PRECISIONS, FormatError, pack, read_header, unpack

try:
    native.library_path()
except native.KernelError as error:
    pytest.skip(str(error), allow_module_level=True)

LARGEST = 1 << 22
TAKEN, FORMAT = 0, 2
"""Of `sk_error` in c_api.h; 1 is a sound blob of a kind that no kernel here serves."""
FIELDS = {8: "H", 10: "B", 11: "B", 12: "I", 16: "I", 20: "I", 84: "I", 80: "I"} | dict.fromkeys(range(24, 80, 8), "Q")
NUMBERS = [0, 1, 2, 3, 4, 63, 64, 65, 127, 128, 255, 2**15, 2**30, 2**30 + 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 64]


def mutations(rng: np.random.Generator, blob: bytes) -> Iterator[bytes]:
    """Bits, fields, ends and bodies changed; mostly with the CRC made right again, so that more than it is tested."""
    for kind in range(5):
        changed = bytearray(blob)
        if kind == 0:
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            offset = list(FIELDS)[rng.integers(len(FIELDS))]
            size = struct.calcsize(FIELDS[offset])
            value = [*NUMBERS, len(blob), len(blob) - 96][rng.integers(len(NUMBERS) + 2)] % 2 ** (8 * size)
            struct.pack_into("<" + FIELDS[offset], changed, offset, value)
        elif kind == 2:
            changed = changed[: rng.integers(len(changed))]
        elif kind == 3:
            changed[10], changed[11] = rng.integers(6), rng.integers(7)
        elif len(changed) > 96:
            changed[rng.integers(96, len(changed))] = rng.integers(256)
        if len(changed) > 96 and rng.random() < 0.8:
            seal(changed)
        yield bytes(changed)


def seal(blob: bytearray) -> None:
    """Make both CRCs right; version 1 has that of the sections alone."""
    struct.pack_into("<I", blob, 80, zlib.crc32(blob[96:]))
    struct.pack_into("<I", blob, 84, 0 if blob[8] == 1 else zlib.crc32(blob[:84] + blob[88:96]))


def in_version(version: int, blob: bytes) -> bytes:
    """The same weights, as they were or are written."""
    changed = bytearray(blob)
    changed[8] = version
    seal(changed)
    return bytes(changed)


def is_sound(blob: np.ndarray) -> bool | None:
    """By the Python reader; None where the matrix would be larger than is worth making."""
    try:
        header = read_header(blob)
        if header.rows * header.columns * 4 > LARGEST:
            return None
        unpack(blob)
    except FormatError:
        return False
    return True


def verdict(blob: np.ndarray) -> int:
    """What the library says of a blob, past every check of Python's; a layer that it makes of one is run."""
    library = native.library()
    address = native.address(blob) if blob.size else native.address(np.zeros(1, np.uint8))
    layer = library.sk_linear_create(address, blob.size, None, None, None, 0.0, b"none", b"auto", 2, 1)
    if not layer:
        return library.sk_last_error_kind()
    x = np.zeros((2, library.sk_linear_columns(layer)), np.float32)
    y = np.empty((2, library.sk_linear_rows(layer)), np.float32)
    assert library.sk_linear_run(layer, native.address(x), 2, None, native.address(y)) == 0
    assert not y.any()
    library.sk_linear_free(layer)
    return TAKEN


@pytest.mark.parametrize("seed", range(4))
def test_a_blob_is_taken_or_refused_and_nothing_breaks(seed: int):
    rng = np.random.default_rng(seed)
    taken = refused = 0
    for _ in range(150):
        weights = rng.standard_normal((int(rng.integers(1, 40)), int(rng.integers(1, 140)))).astype(np.float32)
        weights[rng.random(weights.shape) < rng.random()] = 0
        precision, pattern = PRECISIONS[rng.integers(4)], PATTERNS[rng.integers(5)]
        blob = in_version(int(rng.integers(1, 3)), pack(weights, precision=precision, pattern=pattern).tobytes())
        for data in (blob, *mutations(rng, blob)):
            array = np.frombuffer(data, np.uint8)
            expected = is_sound(array)
            if expected is None:
                continue
            said = verdict(array)
            assert (said == FORMAT) is not expected, native.library().sk_last_error()
            taken += said == TAKEN
            refused += said == FORMAT
    assert taken > 50
    assert refused > 200


@pytest.mark.parametrize(("precision", "pattern"), [(a, b) for a in PRECISIONS for b in PATTERNS])
def test_every_kind_of_blob_is_read(precision: str, pattern: str):
    """A sound blob is never called malformed; whether a kernel serves it is another matter."""
    weights = np.random.default_rng(0).standard_normal((33, 70)).astype(np.float32)
    weights[np.abs(weights) < 1] = 0
    try:
        layer = SparseLinear.from_packed(pack(weights, precision=precision, pattern=pattern))
    except FormatError:
        raise
    except ValueError as error:
        pytest.skip(str(error))
    assert layer(np.zeros((3, 70), np.float32)).shape == (3, 33)
