"""LAMP: magnitude, scaled so that layers can compete (Lee et al. 2021, arXiv 2010.07611, equation 1).

    score(u; W) = W[u]^2 / sum_{v >= u} W[v]^2      with the weights of a layer in ascending order of magnitude

The largest weight of each layer scores 1, so global pruning leaves no layer empty before every layer is down to one.
Among equal magnitudes the one with the higher index comes first, so it scores lower and is removed first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsify.criteria.context import Context


def lamp(context: Context) -> dict[str, Tensor]:
    """LAMP scores in [0, 1] in float64, by parameter; a layer of zeros scores 0."""
    return {name: _layer(weight) for name, weight in context.weights.items()}


def _layer(weight: Tensor) -> Tensor:
    magnitude = weight.flatten().to(torch.promote_types(weight.dtype, torch.float32)).abs()
    order = _ascending(magnitude)
    ranked = magnitude[order].to(torch.float64)
    # Scaled by the largest, squares neither overflow nor vanish.
    squares = (ranked / ranked[-1:].clamp(min=torch.finfo(torch.float64).tiny)) ** 2
    tails = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(ranked)
    scores[order] = torch.where(squares > 0, squares / tails, 0.0)
    return scores.view(weight.shape)


def _ascending(magnitude: Tensor) -> Tensor:
    """Indices in ascending order of magnitude, among equals the higher first.

    The bits of a float32 from 0 up are in its order: with the index in the low half of a 64-bit word, one sort of plain
    integers does it, ten times as fast as a stable sort.
    """
    count = magnitude.numel()
    if magnitude.dtype != torch.float32 or count >= 2**32:
        return torch.sort(magnitude, descending=True, stable=True).indices.flip(0)
    words = magnitude.numpy().view(np.uint32).astype(np.uint64) << np.uint64(32)
    words |= np.arange(count - 1, -1, -1, dtype=np.uint64)
    words.sort()
    words &= np.uint64(2**32 - 1)
    return count - 1 - torch.from_numpy(words.view(np.int64))
