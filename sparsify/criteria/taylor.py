"""Taylor: the squared first-order change of the loss (Molchanov et al. 2019, arXiv 1906.10771, section 3.1).

Setting w_m to zero changes the loss by -g_m w_m to first order; the importance is (g_m w_m)^2 (equation 8). The square
is taken of each batch's gradient and summed over the batches given: unlike SNIP's, it does not vanish at a minimum,
and it grows as batches get smaller, down to the empirical Fisher information times w^2 for batches of one.
"""

from __future__ import annotations

from torch import Tensor

from sparsify.criteria.context import Context
from sparsify.criteria.gradients import differentiable, informative, zeros


def taylor(context: Context) -> dict[str, Tensor]:
    """Sum over batches of (w dL/dw)^2, by parameter.

    Raises:
        UsageError: there are no batches or no loss, or the loss has no gradient or scores nothing.
    """
    with differentiable(context, "taylor") as network:
        scores = zeros(network.weights)
        for batch in context.batches:
            for name, gradient in network.gradient(batch).items():
                scores[name] += (network.weights[name] * gradient).detach().to(scores[name].dtype) ** 2
        return informative({name: score.cpu() for name, score in scores.items()}, "taylor")
