from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern
from sparsify.train.removal import Removal

SHAPES = {"a": (8, 12), "b": (16, 8), "c": (4, 4, 3, 3)}
SCORES = {
    name: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).abs()
    for seed, (name, shape) in enumerate(SHAPES.items())
}
DENSE = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()})
PATTERNS = ["unstructured", "2:4", "1:4", "block:4x1", "block:4x4"]


def removal(pattern: str, **values: object) -> Removal:
    parsed = Pattern.parse(pattern)
    sparsity = None if parsed.kind == "nm" else 0.75
    return Removal(parsed, sparsity, **values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_whole_share_is_what_select_does_at_once(pattern: str, allocation: str):
    whole = removal(pattern, allocation=allocation)
    at_once = select(SCORES, pattern=whole.pattern, sparsity=whole.sparsity, allocation=allocation)  # pyright: ignore
    assert whole.prune(DENSE, SCORES, 1.0) == at_once.mask


@pytest.mark.parametrize("sign", [1, -1], ids=["positive scores", "negative scores"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_removed_stays_removed_whatever_its_score_becomes(pattern: str, sign: int):
    whole, mask = removal(pattern), DENSE
    for number, share in enumerate((0.4, 0.7, 1.0)):
        generator = torch.Generator().manual_seed(number)
        scores = {name: sign * torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}
        smaller = whole.prune(mask, scores, share)
        assert smaller.issubset(mask)
        mask = smaller
    assert mask.kept == whole.prune(DENSE, SCORES, 1.0).kept


@given(share=st.floats(0, 1))
def test_a_share_of_the_sparsity_has_its_exact_count(share: float):
    mask = removal("unstructured").prune(DENSE, SCORES, share)
    removed = int(DENSE.total * 0.75 * share + 0.5)
    assert DENSE.total - mask.kept == removed


@pytest.mark.parametrize(("share", "k"), [(0.0, 4), (0.3, 4), (1 / 3, 3), (0.5, 3), (2 / 3, 2), (0.99, 2), (1.0, 1)])
def test_a_share_of_n_of_m_keeps_the_fewest_whole_weights_with_that_density(share: float, k: int):
    mask = removal("1:4").prune(DENSE, SCORES, share)
    groups = mask["a"].view(8, 3, 4).sum(2)
    assert groups.eq(k).all()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:4x4"])
def test_a_layer_left_dense_stays_so_on_the_way(pattern: str):
    for share in (0.5, 1.0):
        mask = removal(pattern, overrides={"b": 0}).prune(DENSE, SCORES, share)
        assert bool(mask["b"].all()) and not bool(mask["a"].all())


def test_an_override_rises_with_the_share():
    half = removal("unstructured", overrides={"b": 0.5}).prune(DENSE, SCORES, 0.5)
    assert int(half["b"].sum()) == 96  # 128 less a quarter


def test_a_sparsity_that_nobody_gives_is_asked_for():
    with pytest.raises(UsageError, match="a fraction from 0 to below 1 for pattern unstructured, got none"):
        _ = Removal(Pattern.parse("unstructured")).target
    assert Removal(Pattern.parse("1:4")).target == 0.75
