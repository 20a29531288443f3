from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from sparsify.errors import UsageError
from sparsify.masks.allocate import allocate, apportion, check_sparsity

shapes = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.lists(st.integers(1, 300), min_size=2, max_size=2) | st.lists(st.integers(1, 12), min_size=4, max_size=4),
    min_size=1,
)
sparsities = st.integers(0, 995).map(lambda thousandths: thousandths / 1000)


@given(shapes=shapes, sparsity=sparsities)
def test_erk_is_the_clipped_rule_with_the_total_asked_for(shapes: dict[str, list[int]], sparsity: float):
    """The density is min(1, ε (sum of the shape) / (its product)), and bisection finds the ε of the total."""
    found = allocate(shapes, sparsity, "erk", {})
    assert list(found) == sorted(shapes)
    total = sum(prod(shape) for shape in shapes.values())

    def kept(epsilon: float) -> dict[str, float]:
        return {name: min(prod(shape), epsilon * sum(shape)) for name, shape in shapes.items()}

    ceiling = max(prod(shape) / sum(shape) for shape in shapes.values())
    excess = lambda epsilon: sum(kept(epsilon).values()) - (1 - sparsity) * total  # noqa: E731
    expected = kept(brentq(excess, 0, ceiling * (1 + 1e-9) + 1, xtol=1e-13)) if excess(ceiling) > 0 else kept(ceiling)
    densities = {name: expected[name] / prod(shape) for name, shape in shapes.items()}
    assert {name: 1 - number for name, number in found.items()} == pytest.approx(densities, abs=1e-6)
    assert sum((1 - found[name]) * prod(shapes[name]) for name in shapes) == pytest.approx((1 - sparsity) * total)


def test_erk_of_lenet_300_100_by_hand():
    """(784 + 300) : (300 + 100) : (100 + 10) weights kept, which at 90% sparsity clips none."""
    shapes = {"h1": (300, 784), "h2": (100, 300), "out": (10, 100)}
    found = allocate(shapes, 0.9, "erk", {})
    # 26620 weights stay; the output layer's share of 1594 is 1837 of its 1000, so it is dense.
    assert found["out"] == 0
    assert (1 - found["h1"]) * 235_200 == pytest.approx((26_620 - 1000) * 1084 / 1484)
    assert (1 - found["h2"]) * 30_000 == pytest.approx((26_620 - 1000) * 400 / 1484)


def test_overridden_layers_are_beside_the_total():
    shapes = {"a": (40, 50), "b": (60, 70), "c": (5, 9)}
    for how in ("uniform", "erk"):
        found = allocate(shapes, 0.8, how, {"c": 0.0, "[bc]": 0.5})
        assert found["b"] == 0.5 and found["c"] == 0.5  # the longest glob wins
        assert found["a"] == pytest.approx(0.8)


def test_uniform_is_the_same_for_all():
    assert allocate({"b": (3, 3), "a": (2, 2)}, 0.7, "uniform", {}) == {"a": 0.7, "b": 0.7}


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    density=st.integers(0, 100),
    skew=st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_apportioned_counts_are_whole_exact_and_nearest(sizes: list[int], density: int, skew: list[float]):
    names = [f"n{i}" for i in range(len(sizes))]
    size = dict(zip(names, sizes, strict=True))
    share = {name: skew[i] * density / 100 for i, name in enumerate(names)}
    quota = {name: size[name] * share[name] for name in names}
    total = round(sum(quota.values()))
    kept = apportion(size, share, total)
    assert sum(kept.values()) == total
    assert all(0 <= kept[name] <= size[name] for name in names)
    if all(quota[name] >= 1 or size[name] == 0 for name in names):
        assert all(abs(kept[name] - quota[name]) < 1 for name in names)
    if total >= sum(number > 0 for number in sizes):
        assert all(kept[name] > 0 for name in names if size[name])


def test_remainders_go_to_the_largest_then_to_the_first_name():
    assert apportion({"a": 10, "b": 10, "c": 10}, {"a": 0.14, "b": 0.19, "c": 0.17}, 5) == {"a": 1, "b": 2, "c": 2}
    assert apportion({"a": 10, "b": 10}, {"a": 0.15, "b": 0.15}, 3) == {"a": 2, "b": 1}


@pytest.mark.parametrize("sparsity", [None, 1.0, -0.1, 90, float("nan")])
def test_what_is_no_sparsity_is_refused(sparsity: float | None):
    with pytest.raises(UsageError, match=r"sparsity: expected a fraction from 0 to below 1, got .*; 0.9 removes 90%"):
        check_sparsity(sparsity)


def test_an_override_that_matches_nothing_is_refused():
    with pytest.raises(UsageError, match=r"'z\*' matches no prunable parameter; there are a"):
        allocate({"a": (2, 2)}, 0.5, "uniform", {"z*": 0.1})
