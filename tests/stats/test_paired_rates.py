from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.stats.paired_rates import paired_rate_difference, score

Z = 1.959963984540054


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[float], list[float]]:
    a = [1.0] * (both + first) + [0.0] * (second + neither)
    b = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    return a, b


def test_no_example_that_differs_still_leaves_room():
    """With b = c = 0 the score is -n d / sqrt(n d (1 - d)) above 0, which is -z at d = z^2 / (n + z^2)."""
    found = paired_rate_difference(*pairs(115, 0, 0, 5))
    assert found.estimate == 0
    assert found.high == pytest.approx(Z**2 / (120 + Z**2), abs=1e-9)
    assert found.low == pytest.approx(-(Z**2) / (120 + Z**2), abs=1e-9)


@given(*[st.integers(0, 40)] * 3, st.integers(1, 40))
def test_both_bounds_are_where_the_score_is_z(both: int, first: int, second: int, neither: int):
    found = paired_rate_difference(*pairs(both, first, second, neither))
    assert found.low is not None and found.high is not None
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    n = both + first + second + neither
    for bound, z in ((found.low, Z), (found.high, -Z)):
        if abs(bound) < 1 - 1e-6:
            assert score(first, second, n, bound) == pytest.approx(z, abs=1e-3)


def test_the_other_way_round_is_the_negative():
    one, other = paired_rate_difference(*pairs(50, 9, 3, 20)), paired_rate_difference(*pairs(50, 3, 9, 20))
    assert one.low is not None and other.high is not None
    assert (one.estimate, one.low) == (-other.estimate, pytest.approx(-other.high, abs=1e-9))


def test_it_covers_a_small_drop_as_often_as_it_says():
    """A true drop of 2 points on 120 examples, 2.5% worse and 0.5% better: 2,000 draws."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        kind = rng.choice(3, size=120, p=[0.97, 0.025, 0.005])
        a, b = np.where(kind == 2, 0.0, 1.0), np.where(kind == 1, 0.0, 1.0)
        found = paired_rate_difference(a, b)
        assert found.low is not None and found.high is not None
        held += found.low <= 0.02 <= found.high
    assert held / 2000 > 0.93


def test_shares_are_refused():
    with pytest.raises(UsageError, match="0 or 1"):
        paired_rate_difference([0.5, 1.0], [1.0, 1.0])
