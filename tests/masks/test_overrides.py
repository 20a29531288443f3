from __future__ import annotations

import pytest

from sparsify.errors import UsageError
from sparsify.masks.overrides import check_overrides, override_of, overriding_glob

NAMES = ["features.0.weight", "output.weight"]


@pytest.mark.parametrize(
    ("overrides", "name", "number"),
    [
        ({}, "output.weight", None),
        ({"*": 0.1, "output.weight": 0.2}, "output.weight", 0.2),
        ({"output.weight": 0.2, "*": 0.1}, "output.weight", 0.2),
        ({"features.*": 0.3}, "output.weight", None),
        ({"OUTPUT*": 0.3}, "output.weight", None),
        ({"outpu?.weight": 0.3}, "output.weight", 0.3),
    ],
)
def test_the_longest_match_wins(overrides: dict[str, float], name: str, number: float | None):
    assert override_of(name, overrides) == number
    glob = overriding_glob(name, overrides)
    assert (None if glob is None else overrides[glob]) == number


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"b*": 0.5}, r"overrides: 'b\*' matches no prunable parameter; there are features.0.weight, output.weight"),
        ({"*": 1.0}, r"overrides: '\*': expected a fraction from 0 to below 1, got 1.0; 0 leaves it dense"),
        ({"*": -0.1}, "got -0.1"),
        ({"*": float("nan")}, "got nan"),
    ],
)
def test_overrides_that_mean_nothing_are_refused(overrides: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        check_overrides(NAMES, overrides)
    check_overrides(NAMES, {"*": 0.0, "features.?.weight": 0.99})
