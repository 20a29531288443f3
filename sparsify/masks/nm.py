"""The n:m pattern: of every m weights along the input axis, n are kept (Mishra et al. 2021, arXiv 2104.08378)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

# Above this many weights a group, comparing all pairs costs more than a sort.
_PAIRS_UP_TO = 32


def nm_misfit(shape: Sequence[int], m: int, axis: int) -> str | None:
    """Why a weight of `shape` cannot hold an n:m pattern along `axis`, or none where it can."""
    if not -len(shape) <= axis < len(shape):
        return f"has no axis {axis}: its shape is {tuple(shape)}"
    if shape[axis] % m:
        return f"axis {axis} has {shape[axis]} weights, which is no multiple of {m}"
    return None


def keep_n_of_m(scores: Tensor, n: int, m: int, axis: int) -> Tensor:
    """Keep the n highest of every m consecutive scores along `axis`; equal scores keep the lower index.

    Args:
        scores: real tensor without nan whose size along `axis` is a multiple of m.
        n: kept in each group.
        m: size of a group.
        axis: which axis the groups lie along; Linear (out, in) and Conv (out, in, kh, kw) multiply over axis 1.
    """
    groups = scores.unflatten(axis, (scores.shape[axis] // m, m)).movedim(axis % scores.dim() + 1, 0).contiguous()
    kept = torch.empty_like(groups, dtype=torch.bool)
    if m <= _PAIRS_UP_TO:
        beaten_by = [torch.zeros(groups.shape[1:], dtype=torch.uint8) for _ in range(m)]
        for i, j in combinations(range(m), 2):
            first = groups[i] >= groups[j]
            beaten_by[j] += first
            beaten_by[i] += ~first
        for i in range(m):
            kept[i] = beaten_by[i] < n
    else:
        order = torch.sort(groups, dim=0, descending=True, stable=True).indices
        kept.fill_(False).scatter_(0, order[:n], True)
    return kept.movedim(0, axis % scores.dim() + 1).reshape(scores.shape)
