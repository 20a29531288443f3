"""Scores of a graph's weights, shaped (out, in, ...): higher is kept.

Magnitude: Han et al. 2015, arXiv 1506.02626. Wanda: Sun et al. 2023, arXiv 2306.11695, section 3, |W_ij| ||X_j||_2,
compared within each output.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria.rows import within_rows
from sparsify.errors import CorruptError
from sparsify_export.pruning.views import seen
from sparsify_export.pruning.weights import Weight

_RANKED = 1 << 22
"""Weights ranked at once."""
_EXACT = 1 << 22
"""From so many weights an output on, float32 might not tell all ranks apart."""


def magnitude(weight: Weight) -> Tensor:
    """Absolute values, int8 times its scale; float32, or float64 for float64.

    Raises:
        CorruptError: A weight is not finite; names the tensor.
    """
    values = weight.stored.read()
    if not bool(torch.isfinite(values).all()):
        raise CorruptError(f"{weight.stored.path}: tensor {weight.name!r}: expected finite weights, got nan or inf")
    if values.dtype != torch.float64:
        values = values.float()
    values.abs_()
    if weight.scale is not None:
        values *= _scale(weight)
    return seen(weight.view, values).contiguous()


def wanda(weight: Weight, squares: Tensor) -> Tensor:
    """|W_ij| ||X_j||_2.

    Args:
        weight: What to score.
        squares: Sums of x^2, as `norms.input_norms` gives them.
    """
    scores = magnitude(weight)
    norms = squares.sqrt().to(scores.dtype)
    groups = norms.shape[0]
    grouped = scores.reshape(groups, scores.shape[0] // groups, *scores.shape[1:])
    return (grouped * norms.unsqueeze(1)).reshape(scores.shape)


def ranked_within_outputs(scores: Tensor) -> Tensor:
    """Each score's rank among those of its output, as a fraction: what makes every output lose the same share.

    `sparsify.criteria.rows.within_rows`, some rows at a time, since a sort takes several times their memory.
    """
    rows = scores.reshape(scores.shape[0], -1)
    ranks = torch.empty(rows.shape, dtype=torch.float64 if rows.shape[1] >= _EXACT else torch.float32)
    step = max(1, _RANKED // rows.shape[1])
    for start in range(0, len(rows), step):
        ranks[start : start + step] = within_rows({"": rows[start : start + step]})[""]
    return ranks.reshape(scores.shape)


def _scale(weight: Weight) -> Tensor:
    """The scale of an int8 tensor, to multiply it as it is stored."""
    assert weight.scale is not None
    scale = weight.scale.read().float().reshape(-1).abs()
    if len(scale) == 1:
        return scale
    shape = [1] * len(weight.stored.shape)
    shape[weight.scale_axis] = len(scale)
    return scale.reshape(shape)
