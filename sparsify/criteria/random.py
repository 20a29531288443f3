"""Random: a weight's score is a uniform number; the floor any other criterion has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria.context import Context


def random(context: Context) -> dict[str, Tensor]:
    """Independent uniform scores in [0, 1), drawn from the context's seed, by parameter."""
    generator = torch.Generator().manual_seed(context.seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in context.weights.items()}
