from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.channels.group import Cut, Group
from sparsify.channels.select import ladder, select


def group(root: str, units: int, unit_size: int = 1) -> Group:
    return Group(root, "channels", (), (), units, unit_size)


def test_the_least_important_go_first_and_equal_ones_from_the_end():
    rungs = ladder(group("a", 5), torch.tensor([2.0, 1.0, 3.0, 1.0, 1.0]), round_to=1)
    assert rungs.order == (4, 3, 1, 0, 2)
    assert rungs.removed(2) == (3, 4)


@pytest.mark.parametrize(
    "units, unit_size, round_to, allowed",
    [
        (5, 1, 1, (5, 4, 3, 2, 1)),
        (10, 1, 4, (10, 8, 4)),
        (8, 1, 4, (8, 4)),
        (3, 1, 4, (3,)),
        (6, 4, 8, (6, 4, 2)),  # two heads of four channels make eight
        (6, 6, 4, (6, 4, 2)),
    ],
)
def test_what_may_be_kept(units: int, unit_size: int, round_to: int, allowed: tuple[int, ...]):
    assert ladder(group("a", units, unit_size), torch.ones(units), round_to=round_to).allowed == allowed


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 40))
def test_rounding_keeps_at_least_what_was_wanted_and_never_nothing(units: int, round_to: int, count: int):
    rungs = ladder(group("a", units), torch.ones(units), round_to=round_to)
    kept = units - len(rungs.removed(min(count, units)))
    assert kept >= max(units - count, 1)
    assert kept == units or kept % round_to == 0


@given(st.data())
def test_what_goes_globally_is_the_fewest_that_reach_the_target(data: st.DataObject):
    units = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    worth = {
        str(i): torch.tensor(data.draw(st.lists(st.floats(0.1, 9.0), min_size=n, max_size=n, unique=True)))
        for i, n in enumerate(units)
    }
    prices = [data.draw(st.integers(1, 7)) for _ in units]
    wish = data.draw(st.integers(1, sum(p * n for p, n in zip(prices, units, strict=True))))
    ladders = [ladder(group(str(i), n), worth[str(i)], round_to=1) for i, n in enumerate(units)]

    def price(removed: Mapping[str, tuple[int, ...]]) -> int:
        return sum(prices[int(root)] * len(gone) for root, gone in removed.items())

    chosen = select(ladders, worth, lambda removed: price(removed) >= wish, allocation="global", fixed={})
    most = sum(p * (n - 1) for p, n in zip(prices, units, strict=True))
    if chosen is None:
        assert most < wish
        return
    assert price(chosen) >= wish
    for root, gone in chosen.items():  # nothing can be given back, and the least important of each group went
        if gone:
            assert price(chosen) - prices[int(root)] < wish
        kept = set(range(len(worth[root]))) - set(gone)
        assert all(worth[root][g] < worth[root][k] for g, k in product(gone, kept))


def test_uniform_takes_the_same_fraction_of_every_group():
    worth = {"a": torch.rand(40), "b": torch.rand(20)}
    ladders = [ladder(group("a", 40), worth["a"], round_to=1), ladder(group("b", 20), worth["b"], round_to=1)]
    chosen = select(ladders, worth, lambda r: sum(map(len, r.values())) >= 30, allocation="uniform", fixed={})
    assert chosen is not None
    assert {root: len(gone) for root, gone in chosen.items()} == {"a": 20, "b": 10}


def test_fixed_removals_count_towards_the_target():
    worth = {"a": torch.rand(10)}
    rungs = ladder(group("a", 10), worth["a"], round_to=1)
    chosen = select(
        [rungs], worth, lambda r: sum(map(len, r.values())) >= 6, allocation="global", fixed={"b": (0, 1, 2)}
    )
    assert chosen is not None and len(chosen["a"]) == 3 and chosen["b"] == (0, 1, 2)


def test_no_layer_is_emptied_though_others_of_its_group_have_units_left():
    # as a sum over two concatenated layers: units 0 and 1 lie in the one, 2 to 4 in the other
    first = Cut("first.weight", 0, ((0,), (1,), (), (), ()), "out")
    second = Cut("second.weight", 0, ((), (), (0,), (1,), (2,)), "out")
    both = Cut("sum.weight", 0, tuple((i,) for i in range(5)), "out")
    summed = Group("sum", "channels", (both, first, second), (), 5)
    rungs = ladder(summed, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), round_to=1)
    assert rungs.removed(5) == rungs.removed(3) == (0, 2, 3)
    assert rungs.allowed == (5, 4, 3, 2)
