"""LAMP: magnitude, scaled so that layers can compete (Lee et al. 2021, arXiv 2010.07611, equation 1).

    score(u; W) = W[u]^2 / sum_{v >= u} W[v]^2      with the weights of a layer in ascending order of magnitude

The largest weight of each layer scores 1, so global pruning leaves no layer empty before every layer is down to one.
Among equal magnitudes the one with the higher index comes first, so it scores lower and is removed first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria.context import Context


def lamp(context: Context) -> dict[str, Tensor]:
    """LAMP scores in [0, 1] in float64, by parameter; a layer of zeros scores 0."""
    return {name: _layer(weight) for name, weight in context.weights.items()}


def _layer(weight: Tensor) -> Tensor:
    flat = weight.flatten().to(torch.float64)
    # Scaled by the largest, squares neither overflow nor vanish.
    squares = (flat / flat.abs().max().clamp(min=torch.finfo(flat.dtype).tiny)) ** 2 if flat.numel() else flat
    # Descending and stable: the lower index first among equals; the running sum is then that over v >= u.
    order = torch.sort(flat.abs(), descending=True, stable=True).indices
    ranked = squares[order]
    scores = torch.empty_like(flat)
    scores[order] = torch.where(ranked > 0, ranked / ranked.cumsum(0), 0.0)
    return scores.view(weight.shape)
