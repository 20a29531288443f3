from __future__ import annotations

import pytest

from sparsify.errors import UsageError
from sparsify.masks.overrides import check_overrides, globs_of, override_of, overriding_glob, shares_of

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
        ({"output": 0.3}, "output.weight", 0.3),
        ({"features.?": 0.3, "*": 0.1}, "features.0.weight", 0.3),
        ({"attn": 0.3}, "attn.in_proj_weight", 0.3),
        ({"features": 0.3}, "features.0.weight", None),
        ({"output": 0.3}, "output.bias", None),
        ({"": 0.3}, "weight", None),
    ],
)
def test_the_longest_match_wins(overrides: dict[str, float], name: str, number: float | None):
    assert override_of(name, overrides) == number
    glob = overriding_glob(name, overrides)
    assert (None if glob is None else overrides[glob]) == number


@pytest.mark.parametrize("given", ["c1", ["c1"], ("c1",), {"c1"}, (glob for glob in ("c1",))])
def test_a_text_alone_is_one_glob(given: object):
    assert globs_of("keep", given) == ("c1",)
    assert globs_of("keep", ()) == ()


@pytest.mark.parametrize("given", [None, 3, [3], {"c1": 0.5}, b"c1"])
def test_what_is_no_glob_is_refused_in_words(given: object):
    with pytest.raises(UsageError, match=r"keep: expected globs such as \['head\*'\], got "):
        globs_of("keep", given)


@pytest.mark.parametrize("given", ["c1", ["c1"], 0.5, {"c1": "0.5"}, {"c1": None}, {"c1": True}, {1: 0.5}])
def test_what_is_no_mapping_of_globs_to_numbers_is_refused_in_words(given: object):
    with pytest.raises(UsageError, match=r"overrides: expected globs and numbers such as \{'head\*': 0.5\}, got "):
        shares_of("overrides", given)
    assert shares_of("overrides", None) == {} and shares_of("overrides", {"c1": 0}) == {"c1": 0}


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
