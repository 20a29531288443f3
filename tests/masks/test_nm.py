from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsify.masks.nm import keep_n_of_m, nm_misfit


def by_hand(scores: Tensor, n: int, m: int, axis: int) -> Tensor:
    """Group by group in plain Python: sort by (score down, index up), keep the first n."""
    kept = torch.zeros(scores.shape, dtype=torch.bool)
    lines = [range(size) for size in scores.shape]
    lines[axis] = range(scores.shape[axis] // m)
    for place in product(*lines):
        group = [(*place[:axis], place[axis] * m + i, *place[axis + 1 :]) for i in range(m)]
        for index in sorted(group, key=lambda index: (-scores[index].item(), index[axis]))[:n]:
            kept[index] = True
    return kept


@given(
    nm=st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 2), (3, 4), (1, 3), (33, 40), (20, 33)]),
    axis=st.sampled_from([0, 1]),
    tail=st.sampled_from([(), (2,), (3, 1)]),
    dtype=st.sampled_from([torch.float32, torch.int32, torch.float64]),
    spread=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 99),
)
def test_each_group_keeps_its_n_highest(
    nm: tuple[int, int], axis: int, tail: tuple[int, ...], dtype: torch.dtype, spread: int, seed: int
):
    n, m = nm
    shape = (2 * m, 3, *tail) if axis == 0 else (3, 2 * m, *tail)
    scores = torch.randint(-spread, spread, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    kept = keep_n_of_m(scores, n, m, axis)
    assert torch.equal(kept, by_hand(scores, n, m, axis))
    assert torch.equal(keep_n_of_m(scores, n, m, axis - scores.dim()), kept)


def test_convolutions_are_grouped_over_input_channels():
    scores = torch.zeros(1, 4, 2, 1)
    scores[0, [0, 3], 0, 0] = 1.0
    scores[0, [1, 2], 1, 0] = 1.0
    assert keep_n_of_m(scores, 2, 4, 1)[0, :, :, 0].tolist() == [
        [True, False],
        [False, True],
        [False, True],
        [True, False],
    ]


@pytest.mark.parametrize(
    ("shape", "axis", "reason"),
    [
        ((8, 4), 1, None),
        ((8, 3, 3, 3), 1, "axis 1 has 3 weights, which is no multiple of 4"),
        ((3, 8), 0, "axis 0 has 3 weights"),
        ((8,), 1, r"has no axis 1: its shape is (8,)"),
    ],
)
def test_layers_without_whole_groups_are_told(shape: tuple[int, ...], axis: int, reason: str | None):
    found = nm_misfit(shape, 4, axis)
    assert found is None if reason is None else found is not None and reason in found
