from __future__ import annotations

import torch
from torch import nn

from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude


def test_the_score_is_the_absolute_value():
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0], [0.0, -0.5]])
    assert magnitude(Context(layer, ("weight",), 0))["weight"].tolist() == [[1.0, 2.0], [0.0, 0.5]]
