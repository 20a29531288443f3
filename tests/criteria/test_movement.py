from __future__ import annotations

import torch
from torch import nn

from sparsify.criteria.context import Context
from sparsify.criteria.movement import movement


def squared(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).mean()


def test_by_hand_summed_over_batches():
    """dL/dw = 2 (w x - t) x; S = -sum w dL/dw, over batches whatever their size."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(3.0)
    batches = [
        (torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [4.0]])),  # (-4 + 8) / 2 = 2
        (torch.tensor([[1.0]]), torch.tensor([[11.0]])),  # -16
    ]
    assert movement(Context(model, ("weight",), 0, batches, squared))["weight"].item() == -3 * 2 + 3 * 16


def test_a_weight_that_training_grows_scores_above_one_that_it_shrinks():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -1.0]])
    batch = (torch.eye(2), torch.tensor([[2.0], [-0.5]]))  # the first wants 2, the second -0.5
    grown, shrunk = movement(Context(model, ("weight",), 0, [batch], squared))["weight"][0].tolist()
    assert grown > 0 > shrunk
