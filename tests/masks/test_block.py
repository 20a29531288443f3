from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sparsify.masks.block import block_misfit, block_sums, spread, tile
from sparsify.recipe.pattern import Pattern

sizes = st.integers(1, 4)


@given(rows=sizes, cols=sizes, down=sizes, across=sizes, seed=st.integers(0, 99))
def test_sums_are_those_of_average_pooling(rows: int, cols: int, down: int, across: int, seed: int):
    scores = torch.randint(0, 99, (rows * down, cols * across), generator=torch.Generator().manual_seed(seed)).double()
    pooled = functional.avg_pool2d(scores[None], (rows, cols), divisor_override=1)[0]
    assert torch.equal(block_sums(scores, rows, cols), pooled)


@given(rows=sizes, cols=sizes, down=sizes, across=sizes, seed=st.integers(0, 99))
def test_what_is_kept_of_blocks_is_kept_of_their_weights(rows: int, cols: int, down: int, across: int, seed: int):
    kept = torch.rand(down, across, generator=torch.Generator().manual_seed(seed)) < 0.5
    weights = spread(kept, rows, cols, (rows * down, cols * across))
    assert torch.equal(weights, torch.kron(kept.int(), torch.ones(rows, cols, dtype=torch.int)).bool())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_part_of_a_matrix_sums_to_the_same_bits_as_the_whole(dtype: torch.dtype):
    scores = torch.randn(64, 36, generator=torch.Generator().manual_seed(0)).to(dtype).abs()
    whole = block_sums(scores, 4, 3)
    assert whole.dtype == torch.float32
    assert all(torch.equal(block_sums(scores[i : i + 4], 4, 3)[0], whole[i // 4]) for i in range(0, 64, 4))


def test_convolutions_are_seen_as_the_matrix_that_is_multiplied_by():
    scores = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2).float()
    assert block_sums(scores, 2, 4).tolist() == [[0 + 1 + 2 + 3 + 12 + 13 + 14 + 15, 92, 124]]


def test_a_matrix_with_its_input_first_is_tiled_transposed():
    assert tile(Pattern.parse("block:4x1"), 1) == (4, 1)
    assert tile(Pattern.parse("block:4x1"), 0) == (1, 4)


@pytest.mark.parametrize(
    ("shape", "axis", "reason"),
    [
        ((8, 6), 1, None),
        ((8, 3, 3, 2), 1, None),
        ((6, 8), 0, None),
        ((10, 6), 1, "is a matrix of 10 by 6, which blocks of 4 by 3 do not tile"),
        ((8, 7), 1, "8 by 7"),
        ((8, 6), 0, "is a matrix of 8 by 6, which blocks of 3 by 4 do not tile"),
        ((8,), 1, "is no matrix"),
        ((8, 6, 4), 2, "has its input on axis 2"),
    ],
)
def test_layers_that_blocks_do_not_tile_are_told(shape: tuple[int, ...], axis: int, reason: str | None):
    found = block_misfit(shape, Pattern.parse("block:4x3"), axis)
    assert found is None if reason is None else found is not None and reason in found
