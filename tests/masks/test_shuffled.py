from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from sparsify.errors import UsageError
from sparsify.lottery.controls import shuffled_mask
from sparsify.masks.mask import Mask
from sparsify.masks.select import select
from sparsify.masks.shuffled import shuffled
from sparsify.recipe.pattern import Pattern

SHAPES = {"linear": (8, 16), "conv": (8, 8, 3, 3), "turned": (16, 8), "odd": (3, 7), "dense": (4, 4)}
AXES = {"turned": 0}
NM, BLOCK = Pattern("nm", n=1, m=4), Pattern("block", rows=2, cols=4)


def chosen(pattern: Pattern, seed: int = 0) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, shape in SHAPES.items() if pattern.kind != "unstructured" or name != "odd"}
    scores = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    sparsity = None if pattern.kind == "nm" else 0.5
    return select(scores, pattern=pattern, sparsity=sparsity, overrides={"dense": 0.0}, axes=AXES).mask


@pytest.mark.parametrize("pattern", [Pattern("unstructured"), NM, BLOCK], ids=str)
def test_counts_hold_the_rest_is_drawn_anew_and_repeats_by_seed(pattern: Pattern):
    mask = chosen(pattern)
    drawn = shuffled(mask, pattern, 1, AXES)
    assert drawn.layer_kept == mask.layer_kept and drawn == shuffled(mask, pattern, 1, AXES)
    assert all(drawn[name].equal(mask[name]) == (name in ("dense", "odd")) for name in drawn)


def test_n_of_m_stays_in_every_group_along_the_inputs():
    drawn = shuffled(chosen(NM), NM, 3, AXES)
    assert (drawn["linear"].reshape(8, 4, 4).sum(2) == 1).all()
    assert (drawn["conv"].movedim(1, -1).reshape(-1, 4).sum(1) == 1).all()
    assert (drawn["turned"].T.reshape(8, 4, 4).sum(2) == 1).all()


def test_blocks_stay_whole():
    drawn = shuffled(chosen(BLOCK), BLOCK, 3, AXES)
    sums = drawn["linear"].reshape(4, 2, 4, 4).sum((1, 3))
    assert set(sums.flatten().tolist()) == {0, 8}
    turned = drawn["turned"].T.reshape(4, 2, 4, 4).sum((1, 3))
    assert set(turned.flatten().tolist()) == {0, 8}


def test_every_choice_is_equally_likely():
    pairs = Mask({"a": torch.tensor([[True, True, False, False]])})
    seen = Counter(tuple(shuffled(pairs, Pattern("nm", n=2, m=4), s)["a"][0].tolist()) for s in range(1200))
    assert len(seen) == len(list(itertools.combinations(range(4), 2)))
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 20.5  # chi-squared, 5 d.f., p = 0.001


def test_single_weights_are_shuffled_as_the_control_of_a_ticket_is():
    mask = chosen(Pattern("unstructured"))
    assert shuffled(mask, Pattern("unstructured"), 5) == shuffled_mask(mask, 5)


def test_channels_have_no_mask():
    with pytest.raises(UsageError, match="expected a mask's pattern, got channel"):
        shuffled(chosen(NM), Pattern("channel"), 0)
