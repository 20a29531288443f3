"""Gradients of a network's loss with respect to the weights to score; the network itself is left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparsify.criteria.context import Batch, Context, Loss
from sparsify.criteria.untouched import Call, device_of, ordinary, untouched
from sparsify.errors import UsageError


@final
class Differentiable:
    """The loss of a network as a differentiable function of the weights to score; made by `differentiable`.

    Attributes:
        weights: the weights, by the context's names, as leaves of their own; a tied weight is one tensor.
    """

    def __init__(self, context: Context, criterion: str, loss: Loss, call: Call) -> None:
        self._own = context.own_names
        parameters = {self._own[name]: parameter for name, parameter in context.parameters.items()}
        self._leaves = {name: ordinary(parameter).requires_grad_() for name, parameter in parameters.items()}
        self.weights = {name: self._leaves[own] for name, own in self._own.items()}
        self._criterion, self._loss, self._call = criterion, loss, call
        self._device = device_of(context.model)
        self._examples = sum(len(inputs) for inputs, _ in context.batches)

    def share(self, batch: Batch) -> float:
        """The batch's share of all examples: means over batches weighted by it are means over examples."""
        return len(batch[0]) / self._examples

    def gradient(self, batch: Batch, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Gradient of the batch's loss, by name; zero for a weight that the loss does not depend on.

        Raises:
            UsageError: the loss is not a finite scalar, or no weight has a gradient.
        """
        inputs, targets = batch
        is_given = isinstance(targets, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
        given = ordinary(targets).to(self._device) if is_given else targets  # none, where no loss looks at them
        loss = self._loss(self._call(self._leaves, inputs), given)
        if loss.numel() != 1 or not bool(torch.isfinite(loss)):
            got = f"shape {tuple(loss.shape)}" if loss.numel() != 1 else f"{loss.item()}"
            raise UsageError(
                f"{self._criterion}: expected a finite scalar loss, got {got}; "
                "check the calibration examples, the loss and the weights"
            )
        if not loss.requires_grad:
            raise UsageError(
                f"{self._criterion}: expected a loss with a gradient, got one without; the network cuts it (no_grad, "
                "argmax, rounding): take a criterion that needs no gradient, such as magnitude or wanda"
            )
        return self.differentiate(loss, create_graph=create_graph)

    def differentiate(self, value: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Gradient of a scalar with respect to the weights, by name; zero where it does not depend on them."""
        leaves = list(self._leaves.values())
        if not value.requires_grad:
            found = [torch.zeros_like(leaf) for leaf in leaves]
        else:
            found = torch.autograd.grad(
                value.squeeze(), leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        by_own = dict(zip(self._leaves, found, strict=True))
        return {name: by_own[own] for name, own in self._own.items()}


@contextlib.contextmanager
def differentiable(context: Context, criterion: str) -> Generator[Differentiable]:
    """Open `context`'s network for differentiation, in eval mode and in its own precision.

    Attention is computed by its plain formula, whose second derivative exists.

    Raises:
        UsageError: there are no batches or no loss; `criterion` is named.
    """
    loss = context.loss_for(criterion)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        untouched(context.model) as call,
    ):
        yield Differentiable(context, criterion, loss, call)


def zeros(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros to sum in, by name: on the weights' device, in float32 or better."""
    return {
        name: torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32)).detach()
        for name, weight in weights.items()
    }


def mean_gradient(network: Differentiable, context: Context) -> dict[str, Tensor]:
    """Gradient of the mean loss over all examples, by name, summed in float32 or better."""
    mean = zeros(network.weights)
    for batch in context.batches:
        for name, gradient in network.gradient(batch).items():
            mean[name] += network.share(batch) * gradient
    return mean


def informative(scores: dict[str, Tensor], criterion: str) -> dict[str, Tensor]:
    """`scores`, where they tell any weight from another.

    Raises:
        UsageError: all are zero.
    """
    if scores and not any(bool(score.any()) for score in scores.values()):
        raise UsageError(
            f"{criterion}: expected a score other than zero for some weight, got zeros alone; the loss does not depend "
            "on these weights, or an output layer that starts at zero hides them: train first, or take magnitude"
        )
    return scores
