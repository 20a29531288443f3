from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import CorruptError, UsageError
from sparsify.store.packed import MAGIC, masked_bytes, pack, packed_bytes, unpack

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        (a[name].dtype, a[name].shape, bits(a[name])) == (b[name].dtype, b[name].shape, bits(b[name])) for name in a
    )


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bit pattern at all, zeros likely, in any dtype and up to three axes."""
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    if draw(st.booleans()):
        count = int(np.prod(shape))
        return torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool).reshape(
            shape
        )
    dtype = draw(st.sampled_from(DTYPES))
    count = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.lists(st.one_of(st.just(0), st.integers(0, 255)), min_size=count, max_size=count))
    return torch.tensor(raw, dtype=torch.uint8).view(dtype).reshape(shape)


@given(st.dictionaries(st.text(max_size=8), tensors(), max_size=5))
def test_every_bit_comes_back(state: dict[str, torch.Tensor]):
    data = pack(state)
    assert same(unpack(data), state)
    assert pack(dict(reversed(state.items()))) == data


def test_negative_zero_and_nan_payloads_are_kept():
    raw = torch.tensor([0x80000000, 0x7FC00001, 0xFFC12345, 0, 1], dtype=torch.int64).to(torch.int32)
    state = {"w": raw.view(torch.float32)}
    assert bits(unpack(pack(state))["w"]) == bits(state["w"])


def test_strided_tensors_are_packed_by_value():
    state = {"w": torch.arange(12.0).reshape(3, 4).T[::2]}
    assert torch.equal(unpack(pack(state))["w"], state["w"])


@pytest.mark.parametrize(("sparsity", "scale", "most"), [(0.8, 1, 0.1855), (0.9, 1, 0.0965), (0.9, 0.02, 0.0925)])
def test_gaussian_weights_take_less_than_the_best_plain_way(sparsity: float, scale: float, most: float):
    weights = scale * torch.randn(768, 768, generator=torch.Generator().manual_seed(0))
    weights[weights.abs() < weights.abs().flatten().quantile(sparsity)] = 0
    state = {"w": weights}
    assert masked_bytes(state) == 768 * 768 * 4
    assert packed_bytes(state) < most * masked_bytes(state)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UsageError, match=r"z: expected one of float64, .*, got torch\.complex64"):
        pack({"z": torch.zeros(2, dtype=torch.complex64)})


PACKED = pack({"a": torch.tensor([0.0, 1.5, 0.0]), "b": torch.tensor([True, False]), "n": torch.tensor(7)})


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_corrupt(at: int, flip: int):
    changed = bytearray(PACKED)
    changed[at] ^= flip
    with pytest.raises(CorruptError):
        unpack(bytes(changed))


@given(st.integers(0, len(PACKED) - 1))
def test_any_cut_is_corrupt(length: int):
    with pytest.raises(CorruptError):
        unpack(PACKED[:length])


def seal(body: bytes) -> bytes:
    """What an attacker does: a digest that fits."""
    return body + hashlib.sha256(body).digest()


@given(st.integers(8, len(PACKED) - 33), st.integers(1, 255))
def test_hostile_bytes_with_a_fitting_digest_unpack_or_are_corrupt(at: int, flip: int):
    changed = bytearray(PACKED[:-32])
    changed[at] ^= flip
    with suppress(CorruptError):
        unpack(seal(bytes(changed)), largest=1 << 16)


@given(st.binary(max_size=60))
def test_hostile_headers_are_corrupt(header: bytes):
    with pytest.raises(CorruptError):
        unpack(seal(MAGIC + len(header).to_bytes(4, "little") + header))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["float32", "bool", "w"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(JSON, st.integers(-1, 50), st.integers(-1, 50), st.sampled_from([1, 2, True, "1"]))
def test_headers_of_the_right_form_and_wrong_content_are_corrupt_or_empty(listed, masks, values, version):
    header = json.dumps({"version": version, "tensors": listed, "masks": masks, "values": values}).encode()
    with suppress(CorruptError):
        assert unpack(seal(MAGIC + len(header).to_bytes(4, "little") + header)) == {}


def test_a_bomb_is_refused_before_it_is_inflated():
    bomb = pack({"w": torch.zeros(1 << 24)})
    assert len(bomb) < 10_000
    with pytest.raises(CorruptError, match="expected up to 1048576 bytes"):
        unpack(bomb, largest=1 << 20)


def test_a_header_that_promises_a_huge_shape_allocates_nothing():
    header = json.dumps(
        {"version": 1, "tensors": [["w", "float32", [1 << 30, 1 << 30], 0]], "masks": 0, "values": 0}
    ).encode()
    with pytest.raises(CorruptError, match="expected up to"):
        unpack(seal(MAGIC + len(header).to_bytes(4, "little") + header))


def test_a_newer_version_says_so():
    at = PACKED.index(b'"version":1')
    with pytest.raises(CorruptError, match="expected version 1, got 2"):
        unpack(seal(PACKED[: at + 10] + b"2" + PACKED[at + 11 : -32]))
