"""The IDX reader takes what it was promised and refuses everything else, hostile bytes included."""

from __future__ import annotations

import gzip
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sparsify.data.idx import gunzip, idx_size, parse_idx
from sparsify.errors import CorruptError


def as_idx(array: np.ndarray) -> bytes:
    """The format as its page describes it, written without our reader."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=6)))
def test_what_is_written_is_read(array):
    data = as_idx(array)
    assert len(data) == idx_size(array.shape)
    read = parse_idx(data, shape=array.shape, name="x")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


GOOD = as_idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file"),
        (GOOD[:3], "expected an IDX header 00000802, got 000008"),
        (b"\1" + GOOD[1:], "expected an IDX header"),
        (GOOD[:2] + b"\x0d" + GOOD[3:], "expected an IDX header 00000802, got 00000d02"),
        (GOOD[:3] + b"\3" + GOOD[4:], "got 00000803"),
        (GOOD[:10], "expected dimensions"),
        (GOOD[:7] + b"\3" + GOOD[8:], r"expected dimensions \(2, 3\), got \(3, 3\)"),
        (GOOD[:4] + b"\xff" * 8 + GOOD[12:], r"got \(4294967295, 4294967295\)"),
        (GOOD[:-1], "expected 18 bytes, got 17"),
        (GOOD + b"\0", "expected 18 bytes, got 19"),
    ],
)
def test_damage_names_the_file_and_what_is_wrong(data, says):
    with pytest.raises(CorruptError, match=f"^some/file: .*{says}"):
        parse_idx(data, shape=(2, 3), name="some/file")


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(lambda tail: b"\0\0\x08\2" + tail)))
def test_hostile_bytes_are_corrupt_and_nothing_else(data):
    try:
        array = parse_idx(data, shape=(2, 3), name="x")
    except CorruptError:
        assert data != as_idx(np.frombuffer(data[-6:].ljust(6), np.uint8).reshape(2, 3))
    else:
        assert as_idx(array) == data


@given(st.binary(max_size=200))
def test_gunzip_agrees_with_gzip(content):
    assert gunzip(gzip.compress(content), limit=len(content), name="x") == content


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"\x1f\x8b\x08" + tail)))
def test_hostile_gzip_is_corrupt_and_nothing_else(data):
    with pytest.raises(CorruptError):
        gunzip(data, limit=1000, name="x")


@given(st.integers(0, 10_000), st.integers(0, 7), st.binary(min_size=50, max_size=100))
def test_a_flipped_bit_is_seen_or_harmless(position, bit, content):
    data = bytearray(gzip.compress(content, mtime=0))
    data[position % len(data)] ^= 1 << bit
    with suppress(CorruptError):
        assert gunzip(bytes(data), limit=1000, name="x") == content


def test_a_bomb_makes_no_more_than_its_limit():
    bomb = gzip.compress(bytes(10**8))
    with pytest.raises(CorruptError, match="at most 1000 bytes once decompressed"):
        gunzip(bomb, limit=1000, name="x")


def test_a_cut_or_lengthened_gzip_is_refused():
    whole = gzip.compress(b"content")
    with pytest.raises(CorruptError, match="ends early"):
        gunzip(whole[:-1], limit=1000, name="x")
    with pytest.raises(CorruptError, match="3 bytes follow"):
        gunzip(whole + b"abc", limit=1000, name="x")
    with pytest.raises(CorruptError, match="damage"):
        gunzip(zlib.compress(b"content"), limit=1000, name="x")
