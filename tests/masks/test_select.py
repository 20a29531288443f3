from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sparsify.errors import UsageError
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern

SHAPES = {"b.conv": (8, 4, 3, 3), "a.hidden": (16, 20), "c.out": (10, 8)}
UNSTRUCTURED = Pattern.parse("unstructured")
sparsities = st.integers(0, 99).map(lambda percent: percent / 100)
seeds = st.integers(0, 999)


def drawn(seed: int, spread: int = 4) -> dict[str, Tensor]:
    """Whole numbers from a few, so that most scores are tied."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(-spread, spread, shape, generator=generator).float() for name, shape in SHAPES.items()}


def removed(units: int, sparsity: float) -> int:
    rounded = int((Decimal(units) * Decimal(str(sparsity))).quantize(Decimal(1), ROUND_HALF_UP))
    return max(min(rounded, units - 1), 0)


def cut(units: list[tuple[str, int]], score: dict[tuple[str, int], float], count: int) -> set[tuple[str, int]]:
    """The units that stay when the `count` lowest go, of equal ones the later first."""
    ranked = sorted(range(len(units)), key=lambda i: (score[units[i]], -i))
    return {units[i] for i in ranked[count:]}


@given(seed=seeds, sparsity=sparsities, allocation=st.sampled_from(["global", "uniform"]), own=st.booleans())
def test_unstructured_is_that_of_a_plain_sort(seed: int, sparsity: float, allocation: str, own: bool):
    scores = drawn(seed)
    overrides = {"*.conv": 0.25} if own else {}
    found = select(scores, pattern=UNSTRUCTURED, sparsity=sparsity, allocation=allocation, overrides=overrides).mask  # type: ignore[arg-type]
    alone = set(overrides and {"b.conv"}) | (set(SHAPES) if allocation == "uniform" else set())
    groups = [[name] for name in sorted(alone)] + [sorted(set(SHAPES) - alone)]
    value = {(name, i): s for name in SHAPES for i, s in enumerate(scores[name].flatten().tolist())}
    for group in groups:
        units = [(name, i) for name in group for i in range(scores[name].numel())]
        share = 0.25 if own and group == ["b.conv"] else sparsity
        kept = cut(units, value, removed(len(units), share))
        assert {(n, i) for n in group for i in found[n].flatten().nonzero().flatten().tolist()} == kept


@given(seed=seeds, sparsity=sparsities, rows=st.sampled_from([1, 2, 4]), cols=st.sampled_from([1, 2, 4]))
def test_blocks_stay_whole_and_are_those_of_a_plain_sort(seed: int, sparsity: float, rows: int, cols: int):
    scores = drawn(seed)
    result = select(scores, pattern=Pattern("block", rows=rows, cols=cols), sparsity=sparsity)
    tiled = [name for name in sorted(SHAPES) if name not in result.skipped]
    assert set(result.skipped) == ({"c.out"} if rows == 4 else set())
    assert all(bool(result.mask[name].all()) for name in result.skipped)
    units: list[tuple[str, int]] = []
    value: dict[tuple[str, int], float] = {}
    seen: dict[tuple[str, int], set[bool]] = {}
    for name in tiled:
        matrix, kept = scores[name].flatten(1), result.mask[name].flatten(1)
        for i in range(0, matrix.shape[0], rows):
            for j in range(0, matrix.shape[1], cols):
                unit = (name, len(units))
                units.append(unit)
                value[unit] = matrix[i : i + rows, j : j + cols].sum().item()
                seen[unit] = set(kept[i : i + rows, j : j + cols].flatten().tolist())
    assert all(len(whole) == 1 for whole in seen.values())
    assert {unit for unit in units if seen[unit] == {True}} == cut(units, value, removed(len(units), sparsity))


@given(seed=seeds, nm=st.sampled_from(["2:4", "1:4", "3:4", "1:2"]))
def test_n_of_m_keeps_exactly_n_in_every_group(seed: int, nm: str):
    pattern = Pattern.parse(nm)
    result = select(drawn(seed), pattern=pattern)
    assert result.skipped == {}
    for name in SHAPES:
        kept = result.mask[name]
        groups = kept.unflatten(1, (-1, pattern.m)).sum(2)
        assert bool((groups == pattern.n).all())
    assert result.mask.sparsity == pattern.sparsity


@given(seed=seeds, sparsity=sparsities, pattern=st.sampled_from(["unstructured", "block:2x1"]))
def test_erk_keeps_the_total_exact(seed: int, sparsity: float, pattern: str):
    result = select(drawn(seed), pattern=Pattern.parse(pattern), sparsity=sparsity, allocation="erk")
    unit = 2 if pattern != "unstructured" else 1
    total = sum(torch.Size(shape).numel() for shape in SHAPES.values()) // unit
    assert result.mask.kept == unit * (total - removed(total, sparsity))


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
def test_global_magnitude_agrees_with_torch_where_no_ties_exist(sparsity: float):
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(16, 20), nn.Linear(20, 5))
    total = sum(model[i].weight.numel() for i in (0, 2, 3))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0)) + 1.0
    with torch.no_grad():
        for i, part in zip((0, 2, 3), order.split([model[i].weight.numel() for i in (0, 2, 3)]), strict=True):
            model[i].weight.copy_(part.view_as(model[i].weight))
    scores = {f"{i}.weight": model[i].weight.abs() for i in (0, 2, 3)}
    ours = select(scores, pattern=UNSTRUCTURED, sparsity=sparsity).mask
    torch_prune.global_unstructured(
        [(model[i], "weight") for i in (0, 2, 3)], torch_prune.L1Unstructured, amount=removed(total, sparsity)
    )
    assert all(torch.equal(ours[f"{i}.weight"], model[i].get_buffer("weight_mask").bool()) for i in (0, 2, 3))


@pytest.mark.parametrize("pattern", ["2:4", "block:4x1", "block:4x2"])
def test_an_axis_of_zero_prunes_the_transpose(pattern: str):
    scores = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    share = None if pattern == "2:4" else 0.5
    turned = select({"w": scores.T.contiguous()}, pattern=Pattern.parse(pattern), sparsity=share, axes={"w": 0})
    straight = select({"w": scores}, pattern=Pattern.parse(pattern), sparsity=share)
    assert torch.equal(turned.mask["w"].T, straight.mask["w"])
    assert not turned.skipped and turned.mask.sparsity == 0.5


def test_what_stays_dense_is_told_with_its_reason():
    result = select(drawn(0), pattern=Pattern.parse("4:8"), overrides={"a.*": 0})
    assert result.skipped == {
        "a.hidden": "left dense by the override 'a.*': 0",
        "b.conv": "axis 1 has 4 weights, which is no multiple of 8",
    }
    assert result.mask.layer_density == {"a.hidden": 1.0, "b.conv": 1.0, "c.out": 0.5}


def test_the_order_of_the_scores_does_not_matter():
    scores = drawn(3, spread=2)
    turned = dict(reversed(scores.items()))
    for pattern in ("unstructured", "block:2x2"):
        first, second = (select(s, pattern=Pattern.parse(pattern), sparsity=0.6).mask for s in (scores, turned))
        assert first == second


def test_scores_that_cannot_be_ranked_are_refused():
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="scores of w: expected finite numbers, got nan or inf"):
            select({"w": torch.tensor([[1.0, bad]])}, pattern=UNSTRUCTURED, sparsity=0.5)
    with pytest.raises(UsageError, match="scores of w: expected finite numbers"):
        select({"w": torch.full((2, 2), 3e38)}, pattern=Pattern.parse("block:2x2"), sparsity=0.5)


def test_channels_are_not_a_mask():
    with pytest.raises(UsageError, match="pattern channel: expected one that a mask can hold"):
        select(drawn(0), pattern=Pattern.parse("channel"), sparsity=0.5)
