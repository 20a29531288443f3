from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.masks.magnitudes import as_floats, as_tensor, check_finite, magnitudes, stored, width

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
dtypes = st.sampled_from(sorted(TORCH))
bits = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20)


def drawn(numbers: list[int], dtype: str) -> tuple[memoryview, torch.Tensor]:
    """Bytes of finite weights, and the same as torch reads them."""
    raw = np.array(numbers, dtype=np.uint32 if dtype == "F32" else np.uint64).astype("<u4" if dtype == "F32" else "<u2")
    weights = torch.frombuffer(bytearray(raw.tobytes()), dtype=TORCH[dtype]).nan_to_num(0.5, 1.5, -2.5)
    return weights.view(torch.uint8).numpy().data, weights


@given(dtype=dtypes, numbers=bits, wide=st.booleans())
def test_keys_have_the_order_of_the_absolute_values(dtype: str, numbers: list[int], wide: bool):
    piece, weights = drawn(numbers, dtype)
    into = 32 if wide else width([dtype])
    keys = magnitudes(stored(piece, dtype), dtype, into=into)
    assert keys.itemsize * 8 == into
    absolute = weights.double().abs().numpy()
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(absolute, kind="stable"))
    assert np.array_equal(as_tensor(keys).argsort(stable=True).numpy(), np.argsort(absolute, kind="stable"))
    check_finite(keys, dtype, "weights")


@given(dtype=dtypes, numbers=bits)
def test_widening_is_exact_and_so_keys_of_mixed_dtypes_compare(dtype: str, numbers: list[int]):
    piece, weights = drawn(numbers, dtype)
    own = magnitudes(stored(piece, dtype), dtype, into=width([dtype]))
    assert np.array_equal(as_floats(own, dtype), weights.float().abs().numpy())
    wide = magnitudes(stored(piece, dtype), dtype, into=32)
    assert np.array_equal(wide.view(np.float32), weights.float().abs().numpy())


@pytest.mark.parametrize("dtype", sorted(TORCH))
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(dtype: str, wide: bool, bad: float):
    piece = torch.tensor([1.0, bad], dtype=TORCH[dtype]).view(torch.uint8).numpy().data
    keys = magnitudes(stored(piece, dtype), dtype, into=32 if wide else width([dtype]))
    with pytest.raises(UsageError, match="weights of x: expected finite numbers, got nan or inf"):
        check_finite(keys, dtype, "weights of x")
    check_finite(keys[:1], dtype, "weights of x")


@pytest.mark.parametrize(
    ("dtypes", "bits"),
    [(["F16"], 16), (["BF16", "BF16"], 16), (["F32"], 32), (["F16", "BF16"], 32), (["F16", "F32"], 32)],
)
def test_sixteen_bits_are_enough_for_one_sixteen_bit_dtype(dtypes: list[str], bits: int):
    assert width(dtypes) == bits
