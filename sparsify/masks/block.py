"""The block pattern: blocks of R outputs by C inputs are kept or removed whole; a block scores the sum of its weights.

A weight (out, in, kh, kw) is seen as the matrix (out, in * kh * kw) that the runtime multiplies by; blocks tile it from
the top left. Where the input axis is 0, as in a (in, out) weight, the matrix is the transpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    wide = scores.dtype in (torch.float64, torch.int64)
    matrix = scores.detach().reshape(scores.shape[0], -1).to("cpu", torch.float64 if wide else torch.float32).numpy()
    bands = matrix.reshape(matrix.shape[0] // rows, rows, matrix.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses sums that are not finite
        down = bands[:, 0].copy()
        for i in range(1, rows):
            down += bands[:, i]
        across = down[:, ::cols].copy()
        for j in range(1, cols):
            across += down[:, j::cols]
    return torch.from_numpy(across)


def spread(kept: Tensor, rows: int, cols: int, shape: Sequence[int]) -> Tensor:
    """What is kept of a weight of `shape`, from what is kept of its blocks (height / rows, width / cols)."""
    across = np.empty((*kept.shape, cols), dtype=np.bool_)
    for j in range(cols):
        across[:, :, j] = kept.numpy()
    bands = np.empty((kept.shape[0], rows, kept.shape[1] * cols), dtype=np.bool_)
    bands[...] = across.reshape(kept.shape[0], 1, -1)
    return torch.from_numpy(bands).reshape(tuple(shape))
