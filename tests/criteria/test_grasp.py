from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.nn import functional

from sparsify.criteria.context import Context
from sparsify.criteria.grasp import grasp
from sparsify.errors import UsageError

NAMES = ("0.weight", "2.weight")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 3, dtype=torch.float64, generator=generator), torch.randint(0, 2, (n,), generator=generator))
        for n in (5, 2)
    ]


def loss_of(model: nn.Module, batches: list[tuple[Tensor, Tensor]]):
    inputs, targets = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([fixed[name].numel() for name in NAMES])
        weights = {name: part.view_as(fixed[name]) for name, part in zip(NAMES, parts, strict=True)}
        return functional.cross_entropy(functional_call(model, {**fixed, **weights}, (inputs,)), targets)

    return loss, torch.cat([fixed[name].flatten() for name in NAMES])


def test_the_score_is_w_times_the_hessian_times_the_gradient(model: nn.Module, batches: list[tuple[Tensor, Tensor]]):
    scores = grasp(Context(model, NAMES, 0, batches, functional.cross_entropy))
    loss, weights = loss_of(model, batches)
    expected = weights * (jacrev(jacrev(loss))(weights) @ grad(loss)(weights))
    assert torch.allclose(torch.cat([scores[name].flatten() for name in NAMES]), expected, rtol=1e-10, atol=1e-14)


def test_a_weight_scores_high_whose_removal_would_reduce_the_gradient_flow(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]]
):
    """The sign: shrinking w_q by a small share changes |g|^2 by -2 share * score_q."""
    scores = grasp(Context(model, NAMES, 0, batches, functional.cross_entropy))
    flat = torch.cat([scores[name].flatten() for name in NAMES])
    loss, weights = loss_of(model, batches)
    flow = lambda at: float(grad(loss)(at).square().sum())  # noqa: E731
    for index in range(len(weights)):
        shrunk = weights.clone()
        shrunk[index] *= 1 - 1e-6
        assert (flow(shrunk) - flow(weights)) / 1e-6 == pytest.approx(-2 * float(flat[index]), abs=1e-6)


def test_a_loss_without_curvature_tells_nothing_and_says_so():
    model = nn.Linear(2, 1, bias=False)
    context = Context(model, ("weight",), 0, [(torch.ones(1, 2), torch.zeros(1))], lambda out, _: out.sum())
    with pytest.raises(UsageError, match=r"grasp: expected a score other than zero"):
        grasp(context)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v).mean(1)


def test_attention_has_a_second_derivative():
    torch.manual_seed(0)
    data = [(torch.randn(2, 3, 4), torch.tensor([0, 1]))]
    scores = grasp(Context(Attention(), ("qkv.weight",), 0, data, functional.cross_entropy))["qkv.weight"]
    assert bool(torch.isfinite(scores).all()) and bool(scores.any(1).all())
