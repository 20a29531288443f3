"""Absolute values of stored weights as unsigned integers of the same order: the bits of a float without its sign."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify.masks.rank import Keys

# The bits of infinity, in the dtypes that are read, by their name in a safetensors file.
_INFINITY = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
READ = frozenset(_INFINITY)


def stored(piece: memoryview, dtype: str) -> Keys:
    """The bits of the weights in a piece of a file, which they share."""
    return np.frombuffer(piece, dtype="<u4" if dtype == "F32" else "<u2")


def width(dtypes: Collection[str]) -> int:
    """Bits of the keys in which weights of these dtypes compare: 16 where all are of one such dtype, else 32."""
    return 16 if len(set(dtypes)) == 1 and "F32" not in dtypes else 32


def magnitudes(bits: Keys, dtype: str, *, into: int, out: Keys | None = None) -> Keys:
    """Keys of `into` bits in the order of the absolute values; `out`, as long as `bits` or longer, is written over."""
    own = width([dtype])
    keys: Keys = np.bitwise_and(bits, (1 << (own - 1)) - 1, out=None if out is None else out[: bits.size])
    return keys if own == into else as_floats(keys, dtype).view(np.uint32)


def as_floats(keys: Keys, dtype: str) -> NDArray[np.float32]:
    """Exact float32 values of keys of the dtype's own width."""
    if dtype == "F16":
        return keys.view(np.float16).astype(np.float32)
    if dtype == "BF16":
        return (keys.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return keys.view(np.float32)


def as_tensor(keys: Keys) -> torch.Tensor:
    """Keys below the sign bit as a tensor of signed integers, which share their order and their bytes."""
    return torch.from_numpy(keys.view(f"i{keys.itemsize}"))


def check_finite(keys: Keys, dtype: str, what: str) -> None:
    """Refuse keys of numbers that are not finite, of the dtype's own width or widened to 32 bits.

    Raises:
        UsageError: a number is nan or inf.
    """
    infinity = _INFINITY["F32" if keys.itemsize == 4 else dtype]
    if keys.size and keys.max() >= infinity:
        raise UsageError(f"{what}: expected finite numbers, got nan or inf; leave the layer out or mend it")
