"""Magnitude: a weight's score is its absolute value (Han et al. 2015, arXiv 1506.02626)."""

from __future__ import annotations

from torch import Tensor

from sparsify.criteria.context import Context


def magnitude(context: Context) -> dict[str, Tensor]:
    """Absolute values, by parameter."""
    return {name: weight.abs() for name, weight in context.weights.items()}
