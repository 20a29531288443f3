"""The blob against a reader of its own, written from the table in packing.py with `struct` and loops."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

packing = pytest.importorskip("sparsify_kernels.packing", reason="sparsify-kernels is not on the path")
FormatError, pack, read_header, unpack = packing.FormatError, packing.pack, packing.read_header, packing.unpack

EVERY = [(precision, pattern) for precision in packing.PRECISIONS for pattern in packing.PATTERNS]
BLOCK = {"dense": (1, 1), "unstructured": (1, 1), "block_1x4": (1, 4), "rows_16": (16, 1), "rows_32": (32, 1)}
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1}


def matrix(rows: int, columns: int, sparsity: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    weights[rng.random(weights.shape) < sparsity] = 0
    return weights


def value(raw: bytes, precision: str) -> float:
    match precision:
        case "f32":
            return struct.unpack("<f", raw)[0]
        case "f16":
            return struct.unpack("<e", raw)[0]
        case "bf16":
            return struct.unpack("<f", b"\0\0" + raw)[0]
        case _:
            return struct.unpack("<b", raw)[0]


def by_hand(blob: bytes, precision: str, pattern: str) -> np.ndarray:
    """The matrix of a blob, one value at a time."""
    rows, columns = struct.unpack_from("<II", blob, 12)
    mask_at, _, values_at, _, scales_at, _ = struct.unpack_from("<6Q", blob, 32)
    height, width = BLOCK[pattern]
    size = BYTES[precision]
    words = (columns + 64 * width - 1) // (64 * width)
    out = np.zeros((rows, columns))
    for block_row in range(-(-rows // height)):
        for bit in range(-(-columns // width)):
            word = struct.unpack_from("<Q", blob, mask_at + 8 * (block_row * words + bit // 64))[0] if mask_at else ~0
            if not word >> (bit % 64) & 1:
                continue
            for i in range(height * width):
                row, column = block_row * height + i // width, bit * width + i % width
                if row < rows and column < columns:
                    scale = struct.unpack_from("<f", blob, scales_at + 4 * row)[0] if precision == "i8" else 1.0
                    out[row, column] = value(blob[values_at : values_at + size], precision) * scale
                values_at += size
    return out


def crc_around(head: bytes, total: int) -> int:
    """Of a header but for its CRC: of what lies before it and of the length, which lies after it."""
    return zlib.crc32(head + struct.pack("<Q", total))


def test_a_tiny_blob_byte_by_byte():
    """2x3, two values kept: mask words 0b010 and 0b001, values 1.5 and -2. And the same in version 1."""
    mask = struct.pack("<QQ", 0b010, 0b001)
    body = b"\0" * 32 + mask + b"\0" * 48 + bytes.fromhex("0000c03f 000000c0")
    head = b"SPSFYWT\0" + bytes([2, 0, 0, 1]) + struct.pack("<III", 2, 3, 0)
    head += struct.pack("<7QI", 2, 128, 16, 192, 8, 0, 0, zlib.crc32(body))
    weights = np.array([[0, 1.5, 0], [-2, 0, 0]], np.float32)
    assert pack(weights).tobytes() == head + struct.pack("<IQ", crc_around(head, 200), 200) + body
    first_version = head[:8] + b"\1" + head[9:] + struct.pack("<IQ", 0, 200) + body
    np.testing.assert_array_equal(unpack(np.frombuffer(first_version, np.uint8)), weights)


def test_a_tiny_blob_of_integers_byte_by_byte():
    """i8, 1x4 blocks over 5 columns: the second block holds one weight and three zeros past the end."""
    mask = struct.pack("<QQ", 0b10, 0b01)
    values = bytes([127, 0, 0, 0, 127, 0, 0, 0x100 - 64])
    body = b"\0" * 32 + mask + b"\0" * 48 + values + b"\0" * 56 + struct.pack("<ff", 2.0, 0.5)
    head = b"SPSFYWT\0" + bytes([2, 0, 3, 2]) + struct.pack("<III", 2, 5, 0)
    head += struct.pack("<7QI", 8, 128, 16, 192, 8, 256, 8, zlib.crc32(body))
    head += struct.pack("<IQ", crc_around(head, 264), 264)
    blob = pack(np.array([[0, 0, 0, 0, 254], [63.5, 0, 0, -32, 0]], np.float32), precision="i8", pattern="block_1x4")
    assert blob.tobytes() == head + body


@pytest.mark.parametrize(("precision", "pattern"), EVERY)
@settings(max_examples=20)
@given(rows=st.integers(1, 40), columns=st.integers(1, 140), sparsity=st.floats(0, 1), seed=st.integers(0, 99))
@example(rows=1, columns=1, sparsity=1.0, seed=0)
@example(rows=33, columns=129, sparsity=1.0, seed=0)
@example(rows=32, columns=128, sparsity=0.0, seed=0)
def test_round_trip(precision: str, pattern: str, rows: int, columns: int, sparsity: float, seed: int):
    weights = matrix(rows, columns, sparsity, seed)
    blob = pack(weights, precision=precision, pattern=pattern)
    got = unpack(blob)
    np.testing.assert_array_equal(got, by_hand(blob.tobytes(), precision, pattern).astype(np.float32))
    if precision == "f32":
        np.testing.assert_array_equal(got, weights)
    bound = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8}.get(precision)
    slack = np.abs(weights).max(axis=1, keepdims=True) / 127 * 0.50001 if bound is None else np.abs(weights) * bound
    assert (np.abs(got - weights) <= slack + 2.0**-25).all()
    again = pack(got, precision=precision, pattern=pattern)
    np.testing.assert_array_equal(unpack(again), got)
    assert read_header(blob).bytes == blob.size


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_bf16_is_the_nearest_with_ties_to_even(bits: list[int]):
    """Against exact arithmetic: no bf16 neighbour is nearer, and of two as near the even one is taken."""
    weights = np.array(bits, np.uint32).view(np.float32)[None, :]
    weights = weights[:, np.isfinite(weights[0]) & (np.abs(weights[0]) < 3.3e38)]
    if not weights.size:
        return
    got = unpack(pack(weights, precision="bf16", pattern="dense"))[0]
    for before, after in zip(weights[0].tolist(), got, strict=True):
        upper = int(np.float32(after).view(np.uint32)) >> 16
        near = [int(upper + step) for step in (-1, 1) if 0 <= (upper & 0x7FFF) + step < 0x7F80]
        error = abs(float(after) - before)
        for other in near:
            distance = abs(float(np.array([other << 16], np.uint32).view(np.float32)[0]) - before)
            assert error < distance or (error == distance and upper % 2 == 0)


@pytest.mark.parametrize("pattern", packing.PATTERNS)
def test_a_row_of_zeros_has_scale_zero_and_no_values(pattern: str):
    weights = np.zeros((3, 70), np.float32)
    weights[1, 69] = 1e-44
    got = unpack(pack(weights, precision="i8", pattern=pattern))
    assert np.isfinite(got).all()
    assert np.abs(got - weights).max() <= 1e-44


def test_integers_that_round_to_zero_are_not_stored():
    weights = np.array([[127.0, 0.4, 0.6, 0.0]], np.float32)
    assert read_header(pack(weights, precision="i8")).kept == 2


@pytest.mark.parametrize(("precision", "share"), [("f32", 0.135), ("f16", 0.085), ("bf16", 0.085), ("i8", 0.06)])
@pytest.mark.parametrize("shape", [(768, 768), (3072, 768), (512, 4608)], ids=str)
def test_nine_tenths_of_zeros_leave_this_share_of_the_bytes(precision: str, share: float, shape: tuple[int, int]):
    """A bit a weight and a tenth of the values: 1/32 + 1/10, 1/20 or 1/40 of fp32's bytes; in i8 a scale a row."""
    rows, columns = shape
    weights = np.ones(shape, np.float32)
    weights.reshape(-1)[np.random.default_rng(0).permutation(weights.size)[: weights.size * 9 // 10]] = 0
    size = pack(weights, precision=precision).size
    assert size <= share * weights.nbytes
    stored = weights.size - weights.size * 9 // 10
    exact = rows * -(-columns // 64) * 8 + stored * BYTES[precision] + (4 * rows if precision == "i8" else 0)
    assert exact <= size <= exact + 96 + 3 * 64


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros((2, 2, 2), np.float32), r"expected floats of shape \[rows, columns\].*\[2, 2, 2\]"),
        (np.zeros((0, 2), np.float32), "each 1 to"),
        (np.zeros((2, 2), np.int64), "got int64"),
        (np.array([[np.nan]], np.float32), "expected finite weights"),
    ],
)
def test_what_is_no_matrix_of_weights_is_refused(weights: np.ndarray, message: str):
    with pytest.raises(FormatError, match=message):
        pack(weights)


@pytest.mark.parametrize(("precision", "largest"), [("f16", 70000.0), ("bf16", 3.4e38), ("i8", 3.4028235e38)])
def test_a_weight_too_large_for_the_precision_is_refused(precision: str, largest: float):
    with pytest.raises(FormatError, match=f"that {precision} can hold"):
        pack(np.array([[largest]], np.float32), precision=precision)


def test_unknown_words_are_refused():
    with pytest.raises(FormatError, match=r"a precision among f32, f16, bf16, i8 .* got 'f8' and 'unstructured'"):
        pack(np.ones((1, 1), np.float32), precision="f8")


def test_a_few_bytes_cannot_ask_for_all_memory():
    blob = pack(np.zeros((1, 1), np.float32), pattern="rows_32").copy()
    with pytest.raises(FormatError, match="up to 3 bytes"):
        unpack(blob, largest=3)


@pytest.mark.parametrize(("precision", "pattern"), EVERY)
def test_a_changed_byte_after_the_header_is_found(precision: str, pattern: str):
    blob = pack(matrix(17, 70, 0.8), precision=precision, pattern=pattern)
    rng = np.random.default_rng(0)
    for at in rng.integers(96, blob.size, 100).tolist():
        changed = blob.copy()
        changed[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(FormatError):
            unpack(changed)


@pytest.mark.parametrize(("precision", "pattern"), EVERY)
def test_a_changed_header_is_refused(precision: str, pattern: str):
    blob = pack(matrix(17, 70, 0.8), precision=precision, pattern=pattern)
    for bit in range(96 * 8):
        changed = blob.copy()
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            read_header(changed)


@pytest.mark.parametrize("size", [0, 1, 95, 96, 128, -1])
def test_a_blob_cut_short_is_refused(size: int):
    with pytest.raises(FormatError):
        unpack(pack(matrix(5, 70, 0.5))[:size])
