"""Magnitude: a weight's score is its absolute value (Han et al. 2015, arXiv 1506.02626)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def magnitude(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Absolute values, by parameter. `seed` is not used."""
    del seed
    return {name: weight.detach().abs() for name, weight in weights.items()}
