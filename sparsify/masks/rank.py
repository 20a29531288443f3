"""The value of a given rank among any number of keys, exactly, in a few passes that hold one chunk at a time.

A sample brackets the rank; one pass counts the keys above the bracket and gathers those in it (Floyd & Rivest 1975,
doi 10.1145/360680.360691). Where the sample misled, or too much is tied, radix selection (Knuth, TAOCP 3, 5.2.5) takes
over: a histogram of the highest 16 bits says which bucket holds the rank, then one of the next 16 bits in that bucket,
and so on. Both give the same answer, whatever the sample was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.unsignedinteger[Any]]
Flags = NDArray[np.bool_]
_DIGIT = 16
# Up to this many keys a sort is quicker than a histogram.
_FEW = 1 << 16
_CHUNK = 1 << 18
_LOT = 128
# Keys that may be gathered: 128 MiB of 32 bits, and no more than this share of all.
_GATHERED, _SHARE = 1 << 25, 0.25


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a selection cuts: keys above `key` are in, and of the `equal` ones that are it the first `ties`."""

    key: int
    ties: int
    equal: int


def threshold(
    chunks: Callable[[], Iterable[Keys]], count: int, total: int, *, bits: int, sample: Keys | None = None
) -> Threshold:
    """The cut that takes the `count` highest keys.

    Args:
        chunks: gives all keys anew at each call, as flat arrays of one unsigned type; each may overwrite the last.
        count: how many are taken, at least one and at most `total`.
        total: how many keys there are.
        bits: width of a key: 16, 32 or 64.
        sample: some of the keys, which only makes it faster; worth while above 16 bits.
    """
    if total <= _FEW:
        return _by_sorting(np.concatenate([keys.copy() for keys in chunks()]), count)
    if sample is not None and sample.size:
        found = _in_bracket(chunks, count, total, bits, *_bracket(sample, count / total))
        if found is not None:
            return found
    return _by_radix(chunks, count, bits)


def take(values: NDArray[Any], cut: float, ties: int) -> tuple[Flags, int]:
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


def _bracket(sample: Keys, share: float) -> tuple[int, int]:
    """Keys between which the one with `share` of all keys from it upwards is likely to lie.

    Five standard errors to each side. Neighbours in a sample resemble each other, so the error is also taken from the
    differences between successive lots of it (Wolter 2007, Introduction to Variance Estimation, section 8.2).
    """
    ordered, size = np.sort(sample), sample.size
    variance = max(share * (1 - share), 1 / size) / size
    if size >= 2 * _LOT:
        middle = ordered[min(int((1 - share) * size), size - 1)]
        shares = (sample[: size // _LOT * _LOT] >= middle).reshape(-1, _LOT).mean(1)
        variance = max(variance, float(np.square(np.diff(shares)).mean()) / 2 / shares.size)
    low, high = (int((1 - share + side * sqrt(variance)) * size) for side in (-5, 5))
    return (int(ordered[low]) if low >= 0 else 0), int(ordered[min(high, size - 1)])


def _in_bracket(
    chunks: Callable[[], Iterable[Keys]], count: int, total: int, bits: int, low: int, high: int
) -> Threshold | None:
    """The cut if it lies from `low` to `high`; none where it does not, or where too many keys do.

    Keys that are `low` itself are only counted, in a second pass if it comes to them: often they are many, as the zeros
    of what was pruned before are.
    """
    gathered: list[Keys] = []
    flags, shifted = np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.uint32)
    above = size = 0
    for keys in chunks():
        if keys.size > flags.size:  # the buffers stay in the cache; fresh ones would cost more than the comparisons
            flags, shifted = np.empty(keys.size, dtype=np.bool_), np.empty(keys.size, dtype=keys.dtype)
        here, offset = flags[: keys.size], shifted[: keys.size]
        above += int(np.count_nonzero(np.greater(keys, high, out=here)))
        if low < high:
            np.subtract(keys, keys.dtype.type(low + 1), out=offset)  # what is not above `low` wraps round to the top
            gathered.append(keys[np.less(offset, high - low, out=here)])
            size += gathered[-1].size
        if size > min(_GATHERED, _SHARE * total) or above >= count:
            return None
    if above + size >= count:
        together = np.concatenate(gathered)
        return _by_radix(lambda: np.array_split(together, together.size // _CHUNK + 1), count - above, bits)
    reached = sum(int(np.count_nonzero(keys >= low)) for keys in chunks())
    return Threshold(low, count - above - size, reached - above - size) if reached >= count else None


def _by_sorting(keys: Keys, count: int) -> Threshold:
    keys.sort()
    key = keys[keys.size - count]
    low, high = (int(keys.searchsorted(key, side)) for side in ("left", "right"))
    return Threshold(int(key), count - (keys.size - high), high - low)


def _by_radix(chunks: Callable[[], Iterable[Keys]], count: int, bits: int) -> Threshold:
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


def _digits(keys: Keys, shift: int, prefix: int, bits: int) -> NDArray[np.int64]:
    """Histogram of the 16 bits at `shift` of the keys that begin with `prefix`."""
    if shift + _DIGIT < bits:
        keys = keys[(keys >> keys.dtype.type(shift + _DIGIT)) == prefix]
    digit = (keys >> keys.dtype.type(shift)).astype(np.uint16)
    return np.bincount(digit, minlength=1 << _DIGIT)
