from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparsify.criteria.rows import within_rows
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern

UNSTRUCTURED = Pattern.parse("unstructured")
matrices = arrays.arrays("float32", st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.integers(-3, 3))


@given(matrices, st.floats(0, 0.99))
def test_a_selection_takes_the_same_share_of_each_row_and_the_lowest_of_it(matrix, sparsity: float):
    scores = torch.from_numpy(matrix)
    kept = select(within_rows({"w": scores}), pattern=UNSTRUCTURED, sparsity=sparsity).mask["w"]
    counts = kept.sum(1)
    assert int(counts.max() - counts.min()) <= 1
    for row, keep in zip(scores.tolist(), kept.tolist(), strict=True):
        by_worth = sorted(range(len(row)), key=lambda index: (-row[index], index))
        assert set(by_worth[: sum(keep)]) == {index for index, each in enumerate(keep) if each}


def test_rows_of_a_convolution_are_its_outputs_and_of_a_conv1d_its_columns():
    scores = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 10.0, 100.0, 1000.0]
    ).view(4, 1, 1, 1)
    kept = select(within_rows({"w": scores}), pattern=UNSTRUCTURED, sparsity=0.5).mask["w"]
    assert kept.sum((1, 2, 3)).tolist() == [27] * 4
    flat = scores.flatten(1)
    assert torch.equal(within_rows({"w": flat.T.contiguous()}, {"w": 0})["w"].T, within_rows({"w": flat})["w"])


def test_ranks_are_fractions_of_the_row():
    scores = {"w": torch.tensor([[5.0, -1.0, 5.0, 0.0]])}
    assert within_rows(scores)["w"].tolist() == [[1.0, 0.25, 0.75, 0.5]]
