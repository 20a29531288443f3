"""GraSP: what a weight's removal does to the gradient flow (Wang et al. 2020, arXiv 2002.07376, section 4).

With g = dL/dw and H the Hessian, removing w_q changes g^T g by 2 S(-w_q) to first order, where S(-w) = -w * (H g)
(equations 7 and 8). The paper removes the weights with the *highest* S: those whose removal lets the gradient flow
more, or reduces it least. Here the highest score is kept, so the score is -S = w * (H g), sign included.

g and H are those of the mean loss over all examples given, with respect to the weights scored alone, as in the
authors' code; its softmax temperature of 200 is the loss's business. The paper scores a network at its start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria.context import Batch, Context
from sparsify.criteria.gradients import Differentiable, differentiable, informative, mean_gradient, zeros


def grasp(context: Context) -> dict[str, Tensor]:
    """W * (H g), by parameter; a score may be negative.

    Raises:
        UsageError: there are no batches or no loss, or the loss has no gradient or scores nothing.
    """
    with differentiable(context, "grasp") as network:
        g = mean_gradient(network, context)
        hessian_g = zeros(network.weights)
        for batch in context.batches:
            for name, product in _hessian_product(network, batch, g).items():
                hessian_g[name] += network.share(batch) * product
        scores = {name: (weight * hessian_g[name]).detach().cpu() for name, weight in network.weights.items()}
        return informative(scores, "grasp")


def _hessian_product(network: Differentiable, batch: Batch, g: dict[str, Tensor]) -> dict[str, Tensor]:
    """H g for the Hessian of one batch's loss, as the gradient of <dL/dw, g> with g held fixed."""
    gradient = network.gradient(batch, create_graph=True)
    terms = [(gradient[name] * g[name]).sum() for name in _once(network.weights)]
    return network.differentiate(torch.stack(terms).sum())


def _once(weights: dict[str, Tensor]) -> list[str]:
    """One name for each tensor: a tied weight counts once."""
    return list({id(weight): name for name, weight in weights.items()}.values())
