from __future__ import annotations

import pytest

from sparsify.recipe.misfit import Misfit, dotted, near, shown


def test_a_misfit_reads_as_one_sentence():
    misfit = Misfit(("a", 0), expected="text", got="the number 3", mend="put it in quotes")
    assert str(misfit) == "expected text, got the number 3; put it in quotes"
    assert isinstance(misfit, ValueError)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "recipe"),
        (("prune", "levels"), "prune.levels"),
        (("controls", 0, "levels", 2), "controls.0.levels.2"),
        (("prune", "overrides", "conv*.weight"), "prune.overrides.conv*.weight"),
        (("a b", "\x1b[31m"), r'"a b"."\u001b[31m"'),
    ],
)
def test_paths_are_written_as_overrides_take_them(path, text):
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing (null)"),
        (True, "true"),
        (3, "the number 3"),
        (0.5, "the number 0.5"),
        ("x\x1b\n", r"'x\x1b\n'"),
        ({"a": 1}, "a mapping of 1 key"),
        ([1, 2], "a list of 2 items"),
        ((1,), "a list of 1 item"),
    ],
)
def test_values_are_shown_by_kind_and_on_one_line(value, text):
    assert shown(value) == text


@pytest.mark.parametrize("value", ["x" * 1000, 10**300], ids=["text", "number"])
def test_long_values_are_cut(value):
    assert len(shown(value)) < 80
    assert shown(value).endswith("...")


def test_near_names():
    assert near("lvels", ["levels", "scope"]) == "did you mean levels?"
    assert near("zzz", ["levels", "scope"]) == ""
    assert near("levels" * 100, ["levels"]) == ""
