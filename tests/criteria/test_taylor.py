from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sparsify.criteria.context import Context
from sparsify.criteria.taylor import taylor


def squared(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).mean()


def test_by_hand_squared_then_summed_over_batches():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(3.0)
    batches = [
        (torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [4.0]])),  # dL/dw = (-4 + 8) / 2 = 2
        (torch.tensor([[1.0]]), torch.tensor([[11.0]])),  # -16
    ]
    assert taylor(Context(model, ("weight",), 0, batches, squared))["weight"].item() == 6**2 + 48**2


def test_to_first_order_the_score_is_the_squared_change_of_the_loss():
    """For a small weight, removing it changes the loss by its first-order term."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].weight.data *= 1e-5
    x, y = torch.randn(6, 3).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    scores = taylor(Context(model, ("0.weight",), 0, [(x, y)], functional.cross_entropy))["0.weight"]
    whole, weight = functional.cross_entropy(model(x), y).item(), model[0].weight.data.clone()
    for index in range(weight.numel()):
        model[0].weight.data = weight.clone()
        model[0].weight.data.view(-1)[index] = 0.0
        change = functional.cross_entropy(model(x), y).item() - whole
        assert scores.view(-1)[index].item() == pytest.approx(change**2, rel=1e-3)
