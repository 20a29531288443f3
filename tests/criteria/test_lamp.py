from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsify.criteria.context import Context
from sparsify.criteria.lamp import lamp
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern


def scores_of(weight: Tensor) -> Tensor:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight
    return lamp(Context(layer, ("weight",), 0))["weight"]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_scores_are_those_of_the_definition(values: list[int]):
    single, double = (scores_of(torch.tensor([values], dtype=dtype)) for dtype in (torch.float32, torch.float64))
    assert torch.equal(single, double)
    scores = single[0].tolist()
    # Ascending magnitude; among equals the higher index first.
    order = sorted(range(len(values)), key=lambda index: (abs(values[index]), -index))
    for place, index in enumerate(order):
        below = sum(values[other] ** 2 for other in order[place:])
        expected = values[index] ** 2 / below if below else 0.0
        assert abs(scores[index] - expected) < 1e-12


def test_layers_are_scored_on_their_own_and_keep_their_largest_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    model[0].weight.data *= 1e-6
    scores = lamp(Context(model, ("0.weight", "1.weight"), 0))
    assert torch.equal(scores["0.weight"], scores_of(model[0].weight.data))
    mask = select(scores, pattern=Pattern.parse("unstructured"), sparsity=0.9975 - 0.0001).mask
    assert all(count >= 1 for count in mask.layer_kept.values())
    assert sum(count for count in mask.layer_kept.values()) == 2


def test_tiny_and_huge_weights_neither_vanish_nor_overflow():
    assert scores_of(torch.tensor([[1e-30, 1e-30]])).tolist() == [[1.0, 0.5]]
    assert scores_of(torch.tensor([[1e38, 1e38]])).tolist() == [[1.0, 0.5]]
    assert scores_of(torch.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
