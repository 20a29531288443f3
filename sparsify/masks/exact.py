"""Exact selection: the `count` highest of many scores, ties to the lower index, in linear time.

The result is that of a stable descending sort, which takes many times as long on 10^8 scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from sparsify.masks.rank import Keys, take, threshold

# Scores of one chunk; with what is computed from them they stay in the second-level cache.
_CHUNK = 1 << 17
# Scores that are looked at beforehand, to know about where the threshold is.
_SAMPLE = 1 << 16


def keep_highest(scores: Sequence[Tensor], count: int, candidates: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Keep the `count` highest scores over several tensors taken together.

    Args:
        scores: tensors of any shapes and real dtypes, without nan; indices run over them in order, then row-major.
        count: how many to keep; all candidates are kept where there are no more of them.
        candidates: bool tensors of the shapes of `scores`, what may be kept; none for everything.

    Returns:
        Bool tensors of the shapes of `scores` on the CPU, True = kept. Between equal scores the lower index is kept.
    """
    flat = _of_one_dtype(scores)
    among = None if candidates is None else [candidate.cpu().reshape(-1) for candidate in candidates]
    available = sum(int(part.sum()) for part in among) if among is not None else sum(part.numel() for part in flat)
    if 0 < count < available:
        kept = _cut(flat, count, available, among)
    else:
        everything = among or [torch.ones_like(part, dtype=torch.bool) for part in flat]
        kept = [part & (count > 0) for part in everything]
    return [part.view(score.shape) for part, score in zip(kept, scores, strict=True)]


def _of_one_dtype(scores: Sequence[Tensor]) -> list[Tensor]:
    """Flat CPU tensors of the narrowest of float32, float64 and int64 that holds every score exactly."""
    common = reduce(torch.promote_types, (score.dtype for score in scores), torch.bool)
    wide = {torch.float64: torch.float64}.get(common, torch.float32 if common.is_floating_point else torch.int64)
    return [score.detach().to("cpu", wide).reshape(-1) for score in scores]


def _cut(flat: list[Tensor], count: int, available: int, among: list[Tensor] | None) -> list[Tensor]:
    """Keep what is above the threshold, and the first of what is equal to it."""
    total = sum(score.numel() for score in flat)
    sample = torch.cat(list(_candidates(flat, among, max(total // _SAMPLE, 1))))
    found = threshold(
        lambda: map(_keys, _candidates(flat, among)),
        count,
        available,
        bits=flat[0].element_size() * 8,
        sample=_keys(sample),
    )
    value, ties = _score_of(found.key, flat[0].dtype), found.ties
    kept: list[Tensor] = []
    for score, candidate in zip_longest(flat, among or ()):
        part = torch.zeros(score.shape, dtype=torch.bool)
        for here in _chunks(score.numel()):
            among_here = ... if candidate is None else candidate[here].numpy()
            part[here].numpy()[among_here], ties = take(score[here].numpy()[among_here], value, ties)
        kept.append(part)
    return kept


def _candidates(flat: list[Tensor], among: list[Tensor] | None, step: int = 1) -> Iterator[Tensor]:
    """The scores that compete, chunk by chunk, or every `step`th place of them."""
    for score, candidate in zip_longest(flat, among or ()):
        for here in _chunks(score.numel(), _CHUNK * step):
            part = score[here][::step]
            yield part if candidate is None else part[candidate[here][::step]]


def _chunks(length: int, size: int = _CHUNK) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _keys(scores: Tensor) -> Keys:
    """Unsigned integers in the order of the scores: the bits, with the sign flipped, or all where it is set."""
    if scores.dtype == torch.int64:
        return scores.numpy().view(np.uint64) ^ np.uint64(1 << 63)
    signed = (scores + 0.0).numpy().view(np.int32 if scores.dtype == torch.float32 else np.int64)  # -0.0 becomes 0.0
    width, unsigned = signed.itemsize * 8, np.dtype(f"u{signed.itemsize}")
    flip = (signed >> (width - 1)).view(unsigned) | unsigned.type(1 << (width - 1))
    return signed.view(unsigned) ^ flip


def _score_of(key: int, dtype: torch.dtype) -> float | int:
    """The score whose key this is."""
    width = 32 if dtype == torch.float32 else 64
    sign = 1 << (width - 1)
    raw = key ^ (sign if key & sign or dtype == torch.int64 else (1 << width) - 1)
    numpy = {torch.float32: np.float32, torch.float64: np.float64, torch.int64: np.int64}[dtype]
    return np.array([raw], dtype=f"u{width // 8}").view(numpy)[0].item()
