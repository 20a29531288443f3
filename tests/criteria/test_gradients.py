from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsify.criteria.context import Context
from sparsify.criteria.gradients import differentiable, mean_gradient
from sparsify.criteria.movement import movement
from sparsify.criteria.snip import snip
from sparsify.criteria.taylor import taylor
from sparsify.errors import UsageError


def tanh_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 3, dtype=torch.float64, generator=generator), torch.randint(0, 2, (n,), generator=generator))
        for n in sizes
    ]


def test_the_mean_gradient_is_that_of_finite_differences_over_all_examples():
    model, data = tanh_network(), batches(4, 1)
    context = Context(model, ("0.weight", "2.weight"), 0, data, functional.cross_entropy)
    with differentiable(context, "x") as network:
        gradient = mean_gradient(network, context)
    inputs, targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    for name in context.names:
        weight = model.get_parameter(name).data
        for index in range(weight.numel()):
            losses = []
            for step in (1e-6, -2e-6):
                weight.view(-1)[index] += step
                losses.append(functional.cross_entropy(model(inputs), targets).item())
            weight.view(-1)[index] += 1e-6
            assert float(gradient[name].view(-1)[index]) == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-8)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


def test_a_tied_weight_has_one_gradient_under_both_names_and_an_unused_one_has_none():
    torch.manual_seed(0)
    model = Tied().double()
    context = Context(model, ("a.weight", "b.weight", "unused.weight"), 0, batches(4), functional.cross_entropy)
    scores = snip(context)
    (x, y), w = context.batches[0], model.a.weight
    functional.cross_entropy(model(x), y).backward()
    assert torch.allclose(scores["a.weight"], (w * w.grad).detach().abs())
    assert torch.equal(scores["a.weight"], scores["b.weight"])
    assert not bool(scores["unused.weight"].any())


def test_an_output_layer_of_zeros_hides_all_others_and_is_refused():
    """As torchvision's vision transformers start: every w dL/dw is zero, and any order would be one of indices."""
    model = tanh_network()
    model[2].weight.data.zero_()
    context = Context(model, ("0.weight", "2.weight"), 0, batches(4), functional.cross_entropy)
    for criterion in (snip, movement, taylor):
        with pytest.raises(UsageError, match=r"expected a score other than zero.*output layer that starts at zero"):
            criterion(context)


class Argmax(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).argmax(1).double()


def test_a_network_that_cuts_the_gradient_is_refused():
    context = Context(Argmax(3, 2).double(), ("weight",), 0, batches(4), lambda output, target: output.mean())
    with pytest.raises(UsageError, match=r"snip: expected a loss with a gradient.*argmax"):
        snip(context)


def test_a_loss_that_is_no_finite_scalar_is_refused():
    model = tanh_network()
    for loss, got in ((lambda o, t: o.sum(1), r"shape \(4,\)"), (lambda o, t: o.sum() * float("nan"), "nan")):
        with pytest.raises(UsageError, match=f"expected a finite scalar loss, got {got}"):
            snip(Context(model, ("0.weight",), 0, batches(4), loss))
