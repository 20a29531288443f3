from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.unstructured import Scope, competing, keep_like, prune, removed_count

SHAPES = {"conv.weight": (2, 1, 3), "hidden.weight": (3, 4), "output.weight": (5,)}
OVERRIDES: list[dict[str, float]] = [
    {},
    {"output.weight": 0.5},
    {"output.weight": 0.0, "conv*": 0.9},
    {"*.weight": 0.25, "output.weight": 0.75},  # the longest match wins
    {"hidden.weigh?": 0.34},
]
fractions = st.integers(1, 99).map(lambda percent: percent / 100)
scopes = st.sampled_from(["global", "per-layer"])
# Few different values, so that most scores are tied.
values = st.sampled_from([0.0, -0.0, -1.0, 1.0, 2.5, 1e-30, 1e30])


@st.composite
def masks_and_scores(draw: Any, score: Any = values) -> tuple[Mask, dict[str, Tensor]]:
    def tensor(element: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel()
        return torch.tensor(draw(st.lists(element, min_size=size, max_size=size)), dtype=dtype).view(shape)

    mask = Mask({name: tensor(st.booleans(), shape, torch.bool) for name, shape in SHAPES.items()})
    return mask, {name: tensor(score, shape, torch.float32) for name, shape in SHAPES.items()}


def by_brute_force(
    mask: Mask, scores: dict[str, Tensor], fraction: float, overrides: dict[str, float], scope: str
) -> dict[str, list[bool]]:
    """Sort (score, index) in plain Python; of equal scores the higher index goes first."""
    kept = {name: mask[name].flatten().tolist() for name in sorted(mask)}
    longest_first = sorted(overrides, key=len, reverse=True)
    own = {n: next((overrides[glob] for glob in longest_first if fnmatchcase(n, glob)), None) for n in kept}
    groups = [[n] for n in kept if scope == "per-layer" or own[n] is not None]
    groups.append([n for n in kept if [n] not in groups])
    for group in groups:
        entries = [(n, i) for n in group for i, k in enumerate(kept[n]) if k]
        ranked = sorted(range(len(entries)), key=lambda j: (scores[entries[j][0]].flatten()[entries[j][1]].item(), -j))
        shares = [share for name in group[:1] if (share := own[name]) is not None] or [fraction]
        count = int(Decimal(len(entries) * shares[0]).quantize(Decimal(1), ROUND_HALF_UP))
        for j in ranked[: max(min(count, len(entries) - 1), 0)]:
            kept[entries[j][0]][entries[j][1]] = False
    return kept


@given(case=masks_and_scores(), fraction=fractions, overrides=st.sampled_from(OVERRIDES), scope=scopes)
def test_pruning_is_that_of_a_plain_sort(
    case: tuple[Mask, dict[str, Tensor]], fraction: float, overrides: dict[str, float], scope: Scope
):
    mask, scores = case
    pruned = prune(mask, scores, fraction=fraction, overrides=overrides, scope=scope)
    assert {name: pruned[name].flatten().tolist() for name in pruned} == by_brute_force(
        mask, scores, fraction, overrides, scope
    )
    assert {name: tuple(pruned[name].shape) for name in pruned} == SHAPES


@given(case=masks_and_scores(), fraction=fractions, overrides=st.sampled_from(OVERRIDES), scope=scopes)
def test_masks_are_nested_and_counts_exact(
    case: tuple[Mask, dict[str, Tensor]], fraction: float, overrides: dict[str, float], scope: Scope
):
    mask, scores = case
    pruned = prune(mask, scores, fraction=fraction, overrides=overrides, scope=scope)
    assert pruned.issubset(mask)
    assert prune(mask, scores, fraction=fraction, overrides=overrides, scope=scope) == pruned
    for group in competing(mask, overrides, scope):
        before = sum(mask.layer_kept[name] for name in group)
        matching = sorted((glob for glob in overrides if fnmatchcase(group[0], glob)), key=len)
        share = overrides[matching[-1]] if matching else fraction
        assert sum(pruned.layer_kept[name] for name in group) == before - removed_count(before, share)


@given(case=masks_and_scores(), overrides=st.sampled_from(OVERRIDES), scope=scopes)
def test_keep_like_has_the_counts_of_its_model_and_the_highest_scores(
    case: tuple[Mask, dict[str, Tensor]], overrides: dict[str, float], scope: Scope
):
    like, scores = case
    kept = keep_like(like, scores, overrides=overrides, scope=scope)
    for group in competing(like, overrides, scope):
        flat = [(s, j) for j, s in enumerate(torch.cat([scores[n].flatten() for n in group]).tolist())]
        count = sum(like.layer_kept[n] for n in group)
        expected = {j for _, j in sorted(flat, key=lambda entry: (-entry[0], entry[1]))[:count]}
        found = torch.cat([kept[n].flatten() for n in group]).nonzero().flatten().tolist()
        assert set(found) == expected


@given(case=masks_and_scores(), fraction=fractions, scope=scopes)
def test_one_shot_from_dense_to_a_level_is_pruning_dense_once(
    case: tuple[Mask, dict[str, Tensor]], fraction: float, scope: Scope
):
    _, scores = case
    dense = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()})
    once = prune(dense, scores, fraction=fraction, overrides={}, scope=scope)
    assert keep_like(once, scores, overrides={}, scope=scope) == once


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_global_scope_agrees_with_torch_where_no_ties_exist(fraction: float):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 20), nn.Linear(20, 5))
    names = ["0.weight", "2.weight", "3.weight"]
    distinct_scores_(model, names)
    dense = Mask.dense(model, tuple(names))
    amount = removed_count(dense.total, fraction)
    scores = {name: dict(model.named_parameters())[name].detach().abs() for name in names}
    ours = prune(dense, scores, fraction=fraction, overrides={}, scope="global")
    modules = [model[0], model[2], model[3]]
    torch_prune.global_unstructured(
        [(module, "weight") for module in modules], pruning_method=torch_prune.L1Unstructured, amount=amount
    )
    assert all(torch.equal(ours[f"{i}.weight"], model[i].get_buffer("weight_mask").bool()) for i in (0, 2, 3))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_levels_of_one_layer_agree_with_torch_pruning_it_again_and_again(fraction: float):
    layer = nn.Linear(30, 7)
    distinct_scores_(layer, ["weight"])
    scores = {"weight": layer.weight.detach().abs().clone()}
    mask = Mask.dense(layer, ("weight",))
    for _ in range(5):
        amount = removed_count(mask.kept, fraction)
        mask = prune(mask, scores, fraction=fraction, overrides={}, scope="per-layer")
        torch_prune.l1_unstructured(layer, "weight", amount=amount)
        assert torch.equal(mask["weight"], layer.get_buffer("weight_mask").bool())


def distinct_scores_(model: nn.Module, names: list[str]) -> None:
    """Give the parameters different absolute values 1, 2, 3, ... in random places, with random signs."""
    parameters = [dict(model.named_parameters())[name] for name in names]
    total = sum(parameter.numel() for parameter in parameters)
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randperm(total, generator=generator) + 1.0) * torch.randn(total, generator=generator).sign()
    with torch.no_grad():
        for parameter, part in zip(parameters, drawn.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))


@pytest.mark.parametrize(
    ("remaining", "fraction", "removed"),
    [
        (10, 0.2, 2),
        (10, 0.25, 3),  # halves up
        (10, 0.24, 2),
        (5, 0.1, 1),
        (4, 0.1, 0),
        (1, 0.9, 0),  # never the last weight
        (2, 0.9, 1),
        (0, 0.5, 0),
        (10, 0.0, 0),
        (235_200, 0.2, 47_040),
    ],
)
def test_removed_count(remaining: int, fraction: float, removed: int):
    assert removed_count(remaining, fraction) == removed


def test_the_counts_of_lenet_300_100_over_fifteen_levels_are_the_published_ones():
    """20% a level, 10% in the output layer; figure 1 of Frankle & Carbin 2019 names 51.3, 21.1, 7.0, 3.6 percent."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"hidden1.weight": (300, 784), "hidden2.weight": (100, 300), "output.weight": (10, 100)}
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    percent: list[float] = []
    for _ in range(15):
        scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
        mask = prune(mask, scores, fraction=0.2, overrides={"output.weight": 0.1}, scope="per-layer")
        percent.append(round(100 * mask.density, 1))
    assert [percent[level - 1] for level in (3, 7, 12, 15)] == [51.3, 21.1, 7.0, 3.6]


def test_a_layer_may_vanish_in_global_scope_but_not_alone():
    scores = {"a": torch.tensor([0.0, 0.0]), "b": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    dense = Mask({name: torch.ones(len(score), dtype=torch.bool) for name, score in scores.items()})
    assert prune(dense, scores, fraction=0.4, overrides={}, scope="global").layer_kept == {"a": 0, "b": 4}
    assert prune(dense, scores, fraction=0.99, overrides={}, scope="per-layer").layer_kept == {"a": 1, "b": 1}


def test_removed_weights_stay_removed_however_high_their_score():
    mask = Mask({"a": torch.tensor([True, False, True, True])})
    scores = {"a": torch.tensor([1.0, 99.0, 2.0, 3.0])}
    assert prune(mask, scores, fraction=0.34, overrides={}, scope="global")["a"].tolist() == [False, False, True, True]


def test_integer_and_half_precision_scores_are_taken():
    mask = Mask({"a": torch.ones(3, dtype=torch.bool)})
    for dtype in (torch.int64, torch.float16, torch.float64):
        scores = {"a": torch.tensor([3, 1, 2], dtype=dtype)}
        assert prune(mask, scores, fraction=0.3, overrides={}, scope="global")["a"].tolist() == [True, False, True]


def test_double_precision_scores_are_not_rounded_into_ties():
    mask = Mask({"a": torch.ones(2, dtype=torch.bool)})
    scores = {"a": torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)}
    assert prune(mask, scores, fraction=0.5, overrides={}, scope="global")["a"].tolist() == [False, True]


DENSE = Mask({"a.weight": torch.ones(2, dtype=torch.bool)})


def test_an_override_that_matches_nothing_is_refused_with_what_there_is():
    with pytest.raises(UsageError, match=r"prune.overrides: 'b\*' matches no prunable parameter; there are a.weight"):
        prune(DENSE, {"a.weight": torch.ones(2)}, fraction=0.5, overrides={"b*": 0.1}, scope="global")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, r"scores of a.weight: expected shape \(2,\), got none"),
        ({"a.weight": torch.ones(3)}, r"expected shape \(2,\), got \(3,\)"),
        ({"a.weight": torch.tensor([1.0, float("nan")])}, "expected finite numbers, got nan or inf"),
        ({"a.weight": torch.tensor([1.0, float("inf")])}, "expected finite numbers, got nan or inf"),
    ],
    ids=["missing", "shape", "nan", "inf"],
)
def test_scores_that_cannot_be_ranked_are_refused(scores: dict[str, Tensor], message: str):
    with pytest.raises(UsageError, match=message):
        prune(DENSE, scores, fraction=0.5, overrides={}, scope="global")
    with pytest.raises(UsageError, match=message):
        keep_like(DENSE, scores, overrides={}, scope="global")
