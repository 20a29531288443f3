"""Movement: whether training moves a weight away from zero (Sanh et al. 2020, arXiv 2005.07683, section 3).

The paper accumulates S = -sum_t w_t (dL/dw)_t over the steps of a fine-tuning (equation 4, up to the learning rate).
As a criterion the weights stand still and the sum runs over the batches given: S = -sum_b w (dL/dw)_b, the score that
the first epoch of an infinitely slow fine-tuning would collect. At a minimum of the loss it is noise around zero: give
the data of the task that the network is to be moved to.
"""

from __future__ import annotations

from torch import Tensor

from sparsify.criteria.context import Context
from sparsify.criteria.gradients import differentiable, informative, zeros


def movement(context: Context) -> dict[str, Tensor]:
    """Sum over batches of -w dL/dw, by parameter; a score may be negative.

    Raises:
        UsageError: there are no batches or no loss, or the loss has no gradient or scores nothing.
    """
    with differentiable(context, "movement") as network:
        scores = zeros(network.weights)
        for batch in context.batches:
            for name, gradient in network.gradient(batch).items():
                scores[name] -= (network.weights[name] * gradient).detach()
        return informative({name: score.cpu() for name, score in scores.items()}, "movement")
