"""Drop and grow beside a slow version in plain lists, and the papers' rule by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsify.masks.mask import Mask
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern
from sparsify.train.rewire import rewire

UNSTRUCTURED = Pattern.parse("unstructured")


def one(mask: list[int], weights: list[float], growth: list[float], fraction: float) -> list[int]:
    kept = {"w": torch.tensor([mask], dtype=torch.bool)}
    new = rewire(
        Mask(kept),
        {"w": torch.tensor([weights])},
        {"w": torch.tensor([growth])},
        fraction=fraction,
        pattern=UNSTRUCTURED,
        axes={},
    )
    return new["w"].int()[0].tolist()


def test_by_hand():
    # The smallest of four kept, -0.1, goes; of what is then removed, the fifth has the largest gradient.
    assert one([1, 1, 1, 1, 0, 0], [3, -0.1, 2, -4, 0, 0], [9, 1, 9, 9, 5, 4], 0.3) == [1, 0, 1, 1, 1, 0]


def test_what_is_dropped_may_come_back_at_once():
    assert one([1, 1, 1, 1, 0, 0], [3, -0.1, 2, -4, 0, 0], [0, 6, 0, 0, 5, 4], 0.3) == [1, 1, 1, 1, 0, 0]


def test_ties_go_by_index():
    assert one([1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 7, 7], 0.5) == [1, 0, 0, 1, 0]


def slowly(kept: list[bool], weights: list[float], growth: list[float], fraction: float) -> list[bool]:
    drop = math.floor(sum(kept) * fraction)
    smallest = sorted((i for i in range(len(kept)) if kept[i]), key=lambda i: (abs(weights[i]), -i))
    survivors = set(smallest[drop:])
    grown = sorted((i for i in range(len(kept)) if i not in survivors), key=lambda i: (-growth[i], i))[:drop]
    return [i in survivors or i in grown for i in range(len(kept))]


@given(seed=st.integers(0, 10**6), size=st.integers(2, 40), fraction=st.floats(0.01, 0.99))
def test_agrees_with_sorting(seed: int, size: int, fraction: float):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randint(-4, 5, (1, size), generator=generator).float()  # noqa: E731  many ties
    kept, weights, growth = draw() > 0, draw(), draw().abs()
    new = rewire(Mask({"w": kept}), {"w": weights}, {"w": growth}, fraction=fraction, pattern=UNSTRUCTURED, axes={})
    assert new["w"][0].tolist() == slowly(kept[0].tolist(), weights[0].tolist(), growth[0].tolist(), fraction)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1:4", "block:4x1", "block:2x4"])
def test_the_pattern_and_the_counts_hold(pattern: str, axis: int):
    parsed, generator = Pattern.parse(pattern), torch.Generator().manual_seed(0)
    weights, growth = torch.randn(16, 16, generator=generator), torch.rand(16, 16, generator=generator)
    sparsity = parsed.sparsity or 0.5
    mask = select({"w": weights.abs()}, pattern=parsed, sparsity=sparsity, axes={"w": axis}).mask
    new = rewire(mask, {"w": weights}, {"w": growth}, fraction=0.3, pattern=parsed, axes={"w": axis})
    assert new.kept == mask.kept and new != mask
    again = select({"w": new["w"].float()}, pattern=parsed, sparsity=sparsity, axes={"w": axis}).mask
    assert again == new  # a mask in the pattern is its own best
    stayed = int((mask["w"] & new["w"]).sum())
    assert stayed >= 0.7 * mask.kept - 1e-9


def test_blocks_go_and_come_whole_by_their_sums():
    mask = torch.tensor([[1, 1, 0, 0, 0, 0, 1, 1]], dtype=torch.bool).repeat(2, 1)
    weights = torch.tensor([[9.0, 0, 0, 0, 0, 0, 3, 3], [0, 0, 0, 0, 0, 0, 3, 3]])  # sums 9 and 12: the first goes
    growth = torch.tensor([[0.0, 0, 5, 0, 2, 2, 0, 0], [0, 0, 0, 0, 2, 2, 0, 0]])  # sums 5 and 8: the third comes
    new = rewire(
        Mask({"w": mask}), {"w": weights}, {"w": growth}, fraction=0.5, pattern=Pattern.parse("block:2x2"), axes={}
    )
    assert new["w"].int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_a_whole_layer_is_left_alone():
    everything: dict[str, Tensor] = {"w": torch.ones(3, 5, dtype=torch.bool)}
    new = rewire(
        Mask(everything), {"w": torch.zeros(3, 5)}, {"w": torch.rand(3, 5)}, fraction=0.5, pattern=UNSTRUCTURED, axes={}
    )
    assert new == Mask(everything)
