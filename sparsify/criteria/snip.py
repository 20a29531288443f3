"""SNIP: how much the loss answers to a weight's connection (Lee et al. 2019, arXiv 1810.02340, section 4.1).

With c in {0, 1}^m gating the weights, s_j = |dL/dc_j| / sum_k |dL/dc_k| at c = 1, and dL/dc_j = w_j dL/dw_j. The
division changes no order and is left out. L is the mean loss over all examples given, so the absolute value is taken
once, of the mean gradient.
"""

from __future__ import annotations

from torch import Tensor

from sparsify.criteria.context import Context
from sparsify.criteria.gradients import differentiable, informative, mean_gradient


def snip(context: Context) -> dict[str, Tensor]:
    """|w dL/dw|, by parameter.

    Raises:
        UsageError: there are no batches or no loss, or the loss has no gradient or scores nothing.
    """
    with differentiable(context, "snip") as network:
        gradient = mean_gradient(network, context)
        scores = {name: (weight * gradient[name]).detach().abs().cpu() for name, weight in network.weights.items()}
        return informative(scores, "snip")
