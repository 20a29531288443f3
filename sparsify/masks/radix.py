"""The value of a given rank among any number of keys, exactly, in a few passes that hold one chunk at a time.

Radix selection (Knuth, TAOCP 3, 5.2.2 and 5.2.5): a histogram of the highest 16 bits says which bucket holds the rank,
a second pass counts the next 16 bits of the keys in that bucket, and so on. Time does not depend on order or ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.unsignedinteger[Any]]
_DIGIT = 16


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a selection cuts: keys above `key` are in, and of the `equal` ones that are it the first `ties`."""

    key: int
    ties: int
    equal: int


def threshold(chunks: Callable[[], Iterable[Keys]], count: int, *, bits: int) -> Threshold:
    """The cut that takes the `count` highest keys.

    Args:
        chunks: gives all keys anew at each call, as flat arrays of one unsigned type; called bits / 16 times.
        count: how many are taken, at least one and at most as many as there are.
        bits: width of a key: 16, 32 or 64.
    """
    prefix = equal = 0
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        histogram = np.zeros(1 << _DIGIT, dtype=np.int64)
        for keys in chunks():
            histogram += _digits(keys, shift, prefix, bits)
        at_least = histogram[::-1].cumsum()[::-1]
        digit = int(np.flatnonzero(at_least >= count)[-1])
        equal = int(histogram[digit])
        count -= int(at_least[digit]) - equal
        prefix = (prefix << _DIGIT) | digit
    return Threshold(prefix, count, equal)


def take(values: NDArray[Any], cut: float, ties: int) -> tuple[NDArray[np.bool_], int]:
    """What of one flat chunk is above `cut`, with the first `ties` that equal it; and how many ties are then left."""
    kept = values > cut
    if ties <= 0:
        return kept, 0
    equal = values == cut
    found = int(np.count_nonzero(equal))
    if found > ties:
        end = int(np.flatnonzero(equal)[ties - 1]) + 1
        kept[:end] |= equal[:end]
        return kept, 0
    if found:
        kept |= equal
    return kept, ties - found


def _digits(keys: Keys, shift: int, prefix: int, bits: int) -> NDArray[np.int64]:
    """Histogram of the 16 bits at `shift` of the keys that begin with `prefix`."""
    if shift + _DIGIT < bits:
        keys = keys[(keys >> keys.dtype.type(shift + _DIGIT)) == prefix]
    digit = (keys >> keys.dtype.type(shift)).astype(np.uint16)
    return np.bincount(digit, minlength=1 << _DIGIT)
