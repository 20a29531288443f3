"""Which levels match and which ticket is exported, decided on planted curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sparsify.pipeline.choice import Curves, choose, decide
from sparsify.pipeline.plan import Plan
from sparsify.recipe.spec import Recipe

DENSE = (0.900, 0.905, 0.895, 0.902, 0.898)


def plan(**export: Any) -> Plan:
    recipe = {
        "name": "t",
        "model": "lenet-300-100",
        "data": {"source": "digits"},
        "train": {"steps": "10it", "eval_every": "5it"},
        "prune": {"levels": 3},
        "replicates": 5,
        "export": export,
    }
    return Plan(Recipe.model_validate(recipe), "fingerprint", "cpu")


def curves(*levels: Sequence[float], reinit: dict[int, Sequence[float]] | None = None, images: int = 1000) -> Curves:
    def histories(values: Sequence[float]) -> list[dict[str, Any]]:
        return [{"final_accuracy": value, "early_stop_step": 5, "validation_images": images} for value in values]

    controls = {"reinit": {level: histories(values) for level, values in (reinit or {}).items()}}
    return Curves({n: histories(values) for n, values in enumerate((DENSE, *levels))}, controls)


def shifted(by: float, spread: float = 0.001) -> list[float]:
    return [value + by + spread * (-1) ** n for n, value in enumerate(DENSE)]


def test_the_sparsest_matching_level_is_exported_with_its_best_replicate():
    found = curves(shifted(0.0), shifted(-0.001), shifted(-0.05))
    decisions = decide(plan(), found)
    assert [decisions[level].matching for level in (1, 2, 3)] == ["matching", "matching", "not shown"]
    choice = choose(plan(), found, decisions)
    assert (choice.level, choice.basis) == (2, "the sparsest matching level")
    assert found.accuracy(2)[choice.replicate] == max(found.accuracy(2))


def test_of_equally_good_replicates_the_first_is_taken():
    found = curves(shifted(0.0), shifted(0.0), [0.9] * 5)
    assert choose(plan(level=3), found, decide(plan(level=3), found)).replicate == 0


def test_a_level_named_in_the_recipe_is_taken_whatever_it_is():
    found = curves(shifted(0.0), shifted(0.0), shifted(-0.3))
    assert choose(plan(level=3), found, decide(plan(level=3), found)).level == 3


@pytest.mark.parametrize(
    ("levels", "level", "basis"),
    [
        ((-0.001, -0.003, -0.2), 2, "no level was shown to match; the sparsest whose mean lies within 0.005 of dense"),
        ((-0.1, -0.2, -0.3), 1, "no level holds dense accuracy; the least sparse"),
    ],
)
def test_where_no_level_was_shown_to_match_the_choice_says_so(levels: tuple[float, ...], level: int, basis: str):
    found = curves(*(shifted(by, spread=0.01) for by in levels))
    choice = choose(plan(), found, decide(plan(), found))
    assert (choice.level, choice.basis) == (level, basis)


def test_few_images_cannot_decide_by_equal_differences():
    """Five differences that happen to be equal have no spread; the step of an accuracy stands in for it."""
    level = [value - 0.004 for value in DENSE]
    assert decide(plan(), curves(level, level, level, images=1_000_000))[1].matching == "matching"
    assert decide(plan(), curves(level, level, level, images=50))[1].matching == "not shown"


def test_winning_is_decided_only_where_the_weights_were_redrawn():
    found = curves(shifted(0.0), shifted(0.0), shifted(0.0), reinit={2: shifted(-0.03)})
    decisions = decide(plan(), found)
    assert [decisions[level].winning for level in (1, 2, 3)] == ["untested", "winning", "untested"]
