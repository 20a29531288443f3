from __future__ import annotations

import pytest
import torch

from sparsify.errors import UsageError
from sparsify.masks.plan import Group, Plan, plan
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern

SHAPES = {"out": (10, 8), "conv": (8, 4, 3, 3), "hidden": (16, 20)}


def planned(pattern: str, sparsity: float | None = 0.5, allocation: str = "global", **overrides: float) -> Plan:
    return plan(
        SHAPES,
        pattern=Pattern.parse(pattern),
        sparsity=sparsity,
        allocation=allocation,  # type: ignore[arg-type]
        overrides=overrides,
        axes={},
    )


def test_layers_compete_in_order_of_name_and_the_overridden_alone():
    assert planned("unstructured", 0.9).groups == (Group(("conv", "hidden", "out"), 69),)  # 688 - round(619.2)
    assert planned("unstructured", 0.9, hidden=0.25).groups == (Group(("hidden",), 240), Group(("conv", "out"), 37))
    assert planned("unstructured", 0.9, "uniform").groups == (
        Group(("conv",), 29),
        Group(("hidden",), 32),
        Group(("out",), 8),
    )


def test_erk_counts_add_up_to_the_total():
    groups = planned("unstructured", 0.9, "erk").groups
    assert [group.names for group in groups] == [("conv",), ("hidden",), ("out",)]
    assert [group.kept for group in groups] == [17, 35, 17]  # of 69, in shares of 18 : 36 : 18


def test_blocks_are_counted_whole():
    found = planned("block:4x4", 0.5)
    assert found.skipped == {"out": "is a matrix of 10 by 8, which blocks of 4 by 4 do not tile"}
    assert found.groups == (Group(("conv", "hidden"), 19),)  # 18 + 20 blocks


def test_n_of_m_needs_no_counts():
    found = planned("2:4", None, out=0.0)
    assert found.groups == () and found.names == ("conv", "hidden")
    assert found.skipped == {"out": "left dense by the override 'out': 0"}
    assert planned("2:4", 0.5, hidden=0.5).names == ("conv", "hidden", "out")


@pytest.mark.parametrize(
    ("pattern", "sparsity", "overrides", "message"),
    [
        (
            "channel",
            0.5,
            {},
            "pattern channel: expected one that a mask can hold, got channels, which are removed phys",
        ),
        ("2:4", 0.9, {}, r"sparsity: expected 0.5 with pattern 2:4, got 0.9; leave it out, or use another pattern"),
        ("2:4", None, {"conv": 0.9}, "expected 0.5 with pattern 2:4, got 0.9"),
        ("unstructured", None, {}, "expected a fraction from 0 to below 1, got None"),
        ("block:4x1", 1.5, {}, "got 1.5"),
        ("unstructured", 0.5, {"x": 0.0}, "'x' matches no prunable parameter; there are conv, hidden, out"),
    ],
)
def test_what_cannot_be_had_is_refused(pattern: str, sparsity: float | None, overrides: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        planned(pattern, sparsity, **overrides)


def test_a_pattern_that_fits_no_layer_is_refused_where_something_is_to_be_removed():
    scores = {"in": torch.rand(10, 8), "out": torch.rand(10, 6)}
    with pytest.raises(UsageError, match=r"pattern: expected one that fits a layer, got block:3x7, .* and 1 more"):
        select(scores, pattern=Pattern.parse("block:3x7"), sparsity=0.5, allocation="uniform")
