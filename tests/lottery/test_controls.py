from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.lottery.controls import random_set, shuffled_mask, shuffled_values
from sparsify.masks.mask import Mask, chance_iou, iou
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern

bits = st.lists(st.booleans(), min_size=1, max_size=30)
seeds = st.integers(0, 2**63 - 1)


def two_layers(a: list[bool], b: list[bool]) -> Mask:
    return Mask({"a": torch.tensor(a), "b": torch.tensor(b)[:, None, None]})


@given(a=bits, b=bits, seed=seeds)
def test_both_random_masks_keep_counts_and_shapes_and_repeat_by_seed(a: list[bool], b: list[bool], seed: int):
    mask = two_layers(a, b)
    for draw in (shuffled_mask, random_set):
        drawn = draw(mask, seed)
        assert drawn.layer_kept == mask.layer_kept
        assert {n: drawn[n].shape for n in drawn} == {n: mask[n].shape for n in mask}
        assert drawn == draw(mask, seed)
    assert mask == two_layers(a, b)


def test_every_mask_of_the_counts_is_equally_likely():
    mask = Mask({"a": torch.tensor([True, True, False, False, False])})
    for draw in (shuffled_mask, random_set):
        seen = Counter(tuple(draw(mask, seed)["a"].nonzero().flatten().tolist()) for seed in range(2000))
        assert set(seen) == set(itertools.combinations(range(5), 2))
        assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 27.9  # chi-squared, 9 d.f., p = 0.001


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:2x2"])
def test_a_mask_of_any_pattern_and_shape_can_be_shuffled(pattern: str):
    generator = torch.Generator().manual_seed(0)
    shapes = {"linear": (8, 16), "conv": (8, 8, 3, 3), "conv-1d": (4, 8, 5), "dense": (4, 4)}
    scores = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    mask = select(scores, pattern=Pattern.parse(pattern), sparsity=0.5, overrides={"dense": 0.0}).mask
    drawn = shuffled_mask(mask, 1)
    assert drawn.layer_kept == mask.layer_kept
    assert {name: tuple(drawn[name].shape) for name in drawn} == shapes
    assert all(drawn[name].equal(mask[name]) == (name == "dense") for name in drawn)
    empty = Mask({"a": torch.zeros(0, 3, dtype=torch.bool), "b": torch.zeros(2, 2, dtype=torch.bool)})
    assert shuffled_mask(empty, 1) == empty


def test_layers_are_drawn_independently():
    half = torch.arange(1000) < 500
    for draw in (shuffled_mask, random_set):
        drawn = draw(Mask({"a": half, "b": half}), 0)
        between = iou(Mask({"x": drawn["a"]}), Mask({"x": drawn["b"]}))
        assert abs(between - 1 / 3) < 0.08  # as between independent halves; 5 standard deviations


def test_a_random_set_is_as_far_from_the_ticket_as_chance():
    mask = Mask({"a": torch.arange(20_000) % 5 == 0})
    drawn = random_set(mask, 1)
    assert abs(iou(drawn, mask) - chance_iou(drawn, mask)) < 0.01


def test_draws_leave_the_global_generator_alone():
    mask = Mask({"a": torch.arange(10) < 5})
    state = torch.get_rng_state()
    shuffled_mask(mask, 1)
    random_set(mask, 1)
    shuffled_values({"a": torch.arange(10.0)}, mask, 1)
    assert torch.equal(torch.get_rng_state(), state)


@given(a=bits, seed=seeds)
def test_values_are_permuted_among_what_is_kept_and_nowhere_else(a: list[bool], seed: int):
    kept = torch.tensor(a)
    weights = {"a": torch.arange(len(a)) + 1.0, "bias": torch.ones(2)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    out = shuffled_values(weights, Mask({"a": kept}), seed)
    assert sorted(out["a"][kept].tolist()) == sorted(weights["a"][kept].tolist())
    assert torch.equal(out["a"][~kept], weights["a"][~kept])
    assert torch.equal(out["bias"], weights["bias"])
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    assert torch.equal(shuffled_values(weights, Mask({"a": kept}), seed)["a"], out["a"])


def test_values_really_move():
    weights = {"a": torch.arange(1000.0)}
    out = shuffled_values(weights, Mask({"a": torch.ones(1000, dtype=torch.bool)}), 0)
    assert int((out["a"] == weights["a"]).sum()) < 10  # one fixed point is expected
