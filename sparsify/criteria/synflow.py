"""SynFlow: the share of a network's flow that runs through a weight (Tanaka et al. 2020, arXiv 2006.05467, section 5).

R = 1^T f(1; |theta|) is the summed output of the network with every parameter and buffer replaced by its absolute
value, on an input of ones; a score is |theta| dR/d|theta|, its synaptic saliency. Batch norm is in eval mode and
linearised like the rest, as in the authors' code. R grows by a factor a layer, so all is computed in float64, and a
`ReLU6` counts as a ReLU: at its cap nothing would flow. Where a layer gets no flow at all it is named, not scored 0.

Labels and inputs are not looked at: of the batches only the shape of an example is read. One-shot, the scores can empty
a whole layer; the paper prunes in 100 steps along `exponential_sparsities`, scoring the pruned network each time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

import torch
from torch import Tensor, nn

from sparsify.criteria.context import Context
from sparsify.criteria.untouched import untouched
from sparsify.errors import UsageError


def synflow(context: Context) -> dict[str, Tensor]:
    """|theta| dR/d|theta| in float64, by parameter; zero for a removed weight.

    Raises:
        UsageError: there is no batch, inputs are not floating-point, R is not finite or has no gradient, or a layer
            gets no flow.
    """
    inputs = context.inputs_for("synflow")[0]
    if not inputs.is_floating_point():
        raise UsageError(
            f"synflow: expected floating-point inputs, got {inputs.dtype}; an input of ones means nothing to a network "
            "of tokens: take magnitude, lamp or wanda"
        )
    ones = torch.ones((1, *inputs.shape[1:]), dtype=torch.float64)
    with torch.inference_mode(False), torch.enable_grad(), untouched(context.model) as call, _uncapped(context.model):
        absolute = {name: _absolute(tensor) for name, tensor in context.model.named_buffers()}
        absolute |= {name: _absolute(parameter) for name, parameter in context.model.named_parameters()}
        own = context.own_names
        leaves = {name: absolute[name].requires_grad_() for name in dict.fromkeys(own.values())}
        flow = call(absolute, ones).sum()
        if not bool(torch.isfinite(flow)) or not flow.requires_grad:
            got = f"{flow.item():g}" if flow.requires_grad else "one without a gradient"
            raise UsageError(f"synflow: expected a finite, differentiable flow, got {got}; take magnitude or lamp")
        gradients = torch.autograd.grad(flow, list(leaves.values()), allow_unused=True, materialize_grads=True)
    scores = {
        name: (leaf.detach() * gradient).abs().cpu()
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
    if dry := [name for name in context.names if bool(leaves[own[name]].any()) and not bool(scores[own[name]].any())]:
        raise UsageError(
            f"synflow: expected flow through every layer, got none through {', '.join(dry)}: unused, cut off by an "
            f'activation that saturates or a layer of zeros; leave it dense ("{dry[0]}": 0), or take magnitude or lamp'
        )
    return {name: scores[own[name]] for name in context.names}


def exponential_sparsities(sparsity: float, steps: int) -> tuple[float, ...]:
    """The sparsity to reach at each of `steps` steps: 1 - density^(k / steps), k = 1...steps (algorithm 1).

    Args:
        sparsity: fraction of weights removed in the end, in [0, 1).
        steps: number of steps; the paper takes 100.

    Raises:
        UsageError: the sparsity is not in [0, 1), or there is no step.
    """
    if not 0 <= sparsity < 1 or steps < 1:
        raise UsageError(f"synflow: expected a sparsity in [0, 1) and at least one step, got {sparsity} and {steps}")
    return (*(1 - (1 - sparsity) ** (k / steps) for k in range(1, steps)), sparsity)


@contextlib.contextmanager
def _uncapped(model: nn.Module) -> Generator[None]:
    """Let every `ReLU6` of `model` give what a ReLU gives."""
    capped = {module: module.max_val for module in model.modules() if isinstance(module, nn.ReLU6)}
    try:
        for module in capped:
            module.max_val = math.inf
        yield
    finally:
        for module, cap in capped.items():
            module.max_val = cap


def _absolute(tensor: Tensor) -> Tensor:
    """|tensor| in float64; integer buffers, such as counters, stay as they are."""
    return tensor.detach().to(torch.float64).abs() if tensor.is_floating_point() else tensor.detach().clone()
