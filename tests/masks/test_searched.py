"""Searched allocation against brute force over a grid and against a linear program."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from sparsify.errors import UsageError
from sparsify.masks.searched import allocate_searched, lower_hull, predicted_drop

SPARSITIES = st.sampled_from([0.25, 0.5, 0.75, 0.875])
CURVE = st.dictionaries(SPARSITIES, st.floats(-0.25, 1, width=16), min_size=1)
LAYERS = st.dictionaries(st.sampled_from("abcd"), st.tuples(CURVE, st.integers(1, 50)), min_size=1)


def reachable(layers, share):
    """A target that the layers can reach: `share` of the most."""
    total = sum(size for _, size in layers.values())
    return share * sum(size * max(curve) for curve, size in layers.values()) / total


@given(LAYERS, st.floats(0, 1))
def test_the_sum_of_drops_is_the_linear_programs(layers, share):
    """Convex combinations of each layer's measured points, weighted to the target at the least cost."""
    drops = {name: curve for name, (curve, _) in layers.items()}
    sizes = {name: size for name, (_, size) in layers.items()}
    target = reachable(layers, share)
    found = allocate_searched(drops, sizes, target)
    total = sum(sizes.values())
    assert sum(sizes[name] * s for name, s in found.items()) == pytest.approx(target * total, abs=1e-9 * total)
    points = [(name, s, d) for name in drops for s, d in ({0.0: 0.0} | drops[name]).items()]
    one_each = [[float(name == each) for each, _, _ in points] for name in drops]
    removed = [sizes[name] * s for name, s, _ in points]
    program = linprog(
        [d for _, _, d in points], A_eq=[*one_each, removed], b_eq=[*[1.0] * len(drops), target * total], bounds=(0, 1)
    )
    assert program.success
    assert predicted_drop(drops, found) == pytest.approx(program.fun, abs=1e-7)


@given(LAYERS)
def test_no_choice_of_measured_points_that_removes_as_much_is_better(layers):
    drops = {name: curve for name, (curve, _) in layers.items()}
    sizes = {name: size for name, (_, size) in layers.items()}
    for chosen in product(*[({0.0: 0.0} | curve).items() for curve in drops.values()]):
        removed = sum(size * s for size, (s, _) in zip(sizes.values(), chosen, strict=True))
        found = allocate_searched(drops, sizes, removed / sum(sizes.values()))
        assert predicted_drop(drops, found) <= sum(drop for _, drop in chosen) + 1e-9


def test_convex_curves_against_brute_force_over_a_fine_grid():
    """Three layers with d(s) = c s^3, every allocation on a grid of 1/40 that meets the target exactly."""
    grid = np.arange(0, 40) / 40
    cost, sizes = {"a": 0.1, "b": 0.5, "c": 2.0}, {"a": 10, "b": 10, "c": 20}
    drops = {name: {s: c * s**3 for s in grid} for name, c in cost.items()}
    found = allocate_searched(drops, sizes, 0.6)
    a, b, c = np.meshgrid(grid, grid, grid, indexing="ij")
    feasible = np.isclose(10 * a + 10 * b + 20 * c, 0.6 * 40)
    best = (0.1 * a**3 + 0.5 * b**3 + 2 * c**3)[feasible].min()
    assert predicted_drop(drops, found) == pytest.approx(best, abs=1e-12)
    assert found["a"] > found["b"] > found["c"]


def test_equal_layers_share_equally_and_a_costly_one_is_spared():
    curve = {0.5: 0.01, 0.9: 0.2}
    assert allocate_searched({"a": curve, "b": curve}, {"a": 5, "b": 5}, 0.5) == {"a": 0.5, "b": 0.5}
    costly = allocate_searched({"a": curve, "b": {0.5: 0.4, 0.9: 0.8}}, {"a": 5, "b": 5}, 0.45)
    assert costly["b"] == 0 and costly["a"] == pytest.approx(0.9)


def test_the_hull_passes_below_a_bump():
    assert lower_hull({0.5: 0.9, 0.75: 0.3, 0.9: 0.5}) == [(0.0, 0.0), (0.75, 0.3), (0.9, 0.5)]
    assert lower_hull({0.5: -0.1}) == [(0.0, 0.0), (0.5, -0.1)]


@pytest.mark.parametrize(
    ("drops", "sparsity", "says"),
    [
        ({"a": {0.5: 0.1}}, 0.6, r"reach sparsity 0.6, got 0.5 .* measure the layers at higher"),
        ({"a": {}}, 0.5, "expected sparsities from 0 to below 1, got"),
        ({"a": {1.0: 0.1}}, 0.5, r"got \[1.0\]"),
        ({"a": {0.5: 0.1}}, 1.0, "sparsity: expected a fraction"),
    ],
)
def test_what_cannot_be_allocated_is_refused(drops, sparsity, says):
    with pytest.raises(UsageError, match=says):
        allocate_searched(drops, {"a": 4}, sparsity)


def test_more_than_was_measured_is_not_predicted():
    with pytest.raises(UsageError, match=r"up to the measured 0\.5, got 0\.6"):
        predicted_drop({"a": {0.5: 0.1}}, {"a": 0.6})
