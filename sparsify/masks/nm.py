"""The n:m pattern: of every m weights along the input axis, n are kept (Mishra et al. 2021, arXiv 2104.08378)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
        scores: real CPU tensor without nan whose size along `axis` is a multiple of m.
        n: kept in each group.
        m: size of a group.
        axis: which axis the groups lie along; Linear (out, in) and Conv (out, in, kh, kw) multiply over axis 1.

    Returns:
        Bool tensor of the shape of `scores`, True = kept.
    """
    axis %= scores.dim()
    wide = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
    groups = wide.reshape(math.prod(scores.shape[:axis]), -1, m, math.prod(scores.shape[axis + 1 :]))
    if m > _PAIRS_UP_TO:
        order = torch.sort(groups, dim=2, descending=True, stable=True).indices
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, order[:, :, :n], True)
    else:
        kept = torch.from_numpy(_by_pairs(groups.detach().numpy(), n))
    return kept.reshape(scores.shape)


def _by_pairs(groups: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """The same over axis 2, by counting for each place the others of its group that are before it."""
    m = groups.shape[2]
    places = [np.ascontiguousarray(groups[:, :, i]) for i in range(m)]
    before = [np.full(places[0].shape, m - 1 - i, dtype=np.int8) for i in range(m)]
    first = np.empty(places[0].shape, dtype=np.bool_)
    for i, j in combinations(range(m), 2):
        np.greater_equal(places[i], places[j], out=first)
        before[i] -= first.view(np.int8)
        before[j] += first.view(np.int8)
    kept = np.empty(groups.shape, dtype=np.bool_)
    for i in range(m):
        np.less(before[i], n, out=kept[:, :, i])
    return kept
