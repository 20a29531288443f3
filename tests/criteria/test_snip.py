from __future__ import annotations

import torch
from torch import nn

from sparsify.criteria.context import Context
from sparsify.criteria.snip import snip


def squared(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).mean()


def test_by_hand_and_weighted_by_the_size_of_a_batch():
    """L = mean (w x - t)^2: dL/dw = mean 2 (w x - t) x."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(3.0)
    one = (torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [4.0]]))  # 2 (3 - 5) 1 = -4, 2 (6 - 4) 2 = 8
    two = (torch.tensor([[1.0]]), torch.tensor([[11.0]]))  # 2 (3 - 11) 1 = -16
    assert snip(Context(model, ("weight",), 0, [one], squared))["weight"].item() == 3 * (8 - 4) / 2
    assert snip(Context(model, ("weight",), 0, [one, two], squared))["weight"].item() == 3 * (16 + 4 - 8) / 3


def test_the_score_is_the_derivative_by_the_connection():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, t = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    scores = snip(Context(model, ("0.weight",), 0, [(x, t)], squared))["0.weight"]
    weight = model[0].weight.data.clone()
    for index in range(weight.numel()):
        losses = []
        for c in (1 + 1e-6, 1 - 1e-6):
            gated = weight.clone()
            gated.view(-1)[index] *= c
            model[0].weight.data = gated
            losses.append(squared(model(x), t).item())
        assert abs(scores.view(-1)[index] - abs(losses[0] - losses[1]) / 2e-6) < 1e-8
