"""Random: a weight's score is a uniform number; the floor any other criterion has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Independent uniform scores in [0, 1), drawn from `seed`, by parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}
