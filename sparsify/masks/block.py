"""The block pattern: blocks of R outputs by C inputs are kept or removed whole; a block scores the sum of its weights.

A weight (out, in, kh, kw) is seen as the matrix (out, in * kh * kw) that the runtime multiplies by; blocks tile it from
the top left. Where the input axis is 0, as in a (in, out) weight, the matrix is the transpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.recipe.pattern import Pattern


def tile(pattern: Pattern, axis: int) -> tuple[int, int]:
    """Rows and columns of a block in the weight's own matrix, (first axis, all others)."""
    return (pattern.cols, pattern.rows) if axis == 0 else (pattern.rows, pattern.cols)


def block_misfit(shape: Sequence[int], pattern: Pattern, axis: int) -> str | None:
    """Why a weight of `shape` cannot be tiled by blocks, or none where it can."""
    if len(shape) < 2:
        return f"is no matrix: its shape is {tuple(shape)}"
    if axis not in (0, 1):
        return f"has its input on axis {axis}: blocks lie on axes 0 and 1"
    rows, cols = tile(pattern, axis)
    height, width = shape[0], int(torch.Size(shape[1:]).numel())
    if height % rows or width % cols:
        return f"is a matrix of {height} by {width}, which blocks of {rows} by {cols} do not tile"
    return None


def block_sums(scores: Tensor, rows: int, cols: int) -> Tensor:
    """Sum of each block: (height, ...) -> (height / rows, width / cols), in float32, or float64 for wider scores.

    The order of additions is fixed (down the rows, then across), so that part of a matrix gives the same bits as all.
    """
    wide = scores.dtype if scores.dtype in (torch.float32, torch.float64) else torch.float32
    matrix = scores.reshape(scores.shape[0], -1).to(torch.float64 if scores.dtype == torch.int64 else wide)
    bands = matrix.view(matrix.shape[0] // rows, rows, matrix.shape[1])
    down = bands[:, 0].clone()
    for i in range(1, rows):
        down += bands[:, i]
    across = down[:, ::cols].clone()
    for j in range(1, cols):
        across += down[:, j::cols]
    return across


def spread(kept: Tensor, rows: int, cols: int, shape: Sequence[int]) -> Tensor:
    """What is kept of a weight of `shape`, from what is kept of its blocks."""
    height, width = kept.shape
    return kept.view(height, 1, width, 1).expand(height, rows, width, cols).reshape(tuple(shape))
