"""Scores of a graph's weights, shaped (out, in, ...): higher is kept.

Magnitude: Han et al. 2015, arXiv 1506.02626. Wanda: Sun et al. 2024, arXiv 2306.11695, |W_ij| ||X_j||_2, compared within
each output.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.errors import CorruptError
from sparsify_export.pruning.views import seen
from sparsify_export.pruning.weights import Weight

_ROWS = 1 << 22
"""Weights ranked at once."""


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
    """Each score's place among those of its output, (place + 1/2) / count: what makes outputs lose equally many.

    Between equal scores the lower index ranks higher, as it is kept first.
    """
    rows = scores.reshape(scores.shape[0], -1)
    count = rows.shape[1]
    ranks = torch.empty(rows.shape, dtype=torch.float64 if count > 1 << 22 else torch.float32)
    places = (count - torch.arange(count, dtype=ranks.dtype) - 0.5) / count
    step = max(1, _ROWS // count)
    for start in range(0, len(rows), step):
        order = torch.sort(rows[start : start + step], dim=1, descending=True, stable=True).indices
        ranks[start : start + step].scatter_(1, order, places.expand(len(order), count))
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
