from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sparsify.recipe.misfit import dotted
from sparsify.recipe.rules import rules
from sparsify.recipe.spec import Recipe

TREE: dict[str, Any] = {
    "name": "x",
    "model": "mlp:64-10",
    "data": {"source": "digits"},
    "train": {
        "steps": "100it",
        "eval_every": "10it",
        "schedule": {"name": "multistep", "warmup": "5it", "milestones": ["50it", "80it"]},
    },
    "prune": {"levels": 4, "rewind": "10it"},
    "controls": [{"name": "reinit", "levels": [1, 4]}, {"name": "one-shot", "levels": [2]}],
    "probes": [{"name": "perturb-rest", "levels": [3]}],
    "export": {"level": 4, "targets": ["onnxruntime-cpu", "tensorrt"], "batch_sizes": [1, 8]},
}

BROKEN = [
    (("controls", 0, "levels", 1), 5, "expected a level up to prune.levels, 4, got the number 5; raise prune.levels"),
    (("probes", 0, "levels", 0), 9, "expected a level up to prune.levels, 4, got the number 9"),
    (("export", "level"), 5, "expected a level up to prune.levels, 4, got the number 5"),
    (
        ("controls", 1, "name"),
        "reinit",
        "expected each of them once, got 'reinit' again; give it once, with all its levels",
    ),
    (("controls", 0, "levels", 1), 1, "expected each of them once, got the number 1 again; remove one"),
    (("export", "targets", 1), "onnxruntime-cpu", "expected each of them once, got 'onnxruntime-cpu' again"),
    (("export", "batch_sizes", 1), 1, "expected each of them once, got the number 1 again"),
    (("train", "eval_every"), "0ep", "expected at least one step, got 0ep; write for example 50it"),
    (
        ("prune", "rewind"),
        "100it",
        "expected a step before the end of training, train.steps = 100it, got 100it; name an",
    ),
    (("train", "schedule", "warmup"), "200it", "expected a step before the end of training, train.steps = 100it"),
    (("train", "schedule", "milestones", 1), "100it", "expected a step before the end of training"),
    (
        ("train", "schedule", "milestones", 1),
        "50it",
        "expected milestones in rising order, got 50it after 50it; sort them",
    ),
]


def _put(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    tree = copy.deepcopy(tree)
    here = tree
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return tree


def _found(tree: Any) -> list[tuple[str, str]]:
    return [(dotted(misfit.path), str(misfit)) for misfit in rules(tree, 8)]


def test_a_recipe_whose_fields_fit_together_has_no_misfit():
    assert _found(TREE) == []
    assert Recipe.model_validate(TREE).prune.levels == 4


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_each_rule_speaks_at_the_field_that_breaks_it(path, value, message):
    [(where, said)] = _found(_put(TREE, path, value))
    assert where == dotted(path)
    assert said.startswith(message)


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_the_model_itself_keeps_the_rules_without_any_file(path, value, message):
    with pytest.raises(ValidationError, match=message.split("; ")[0].replace("(", r"\(")):
        Recipe.model_validate(_put(TREE, path, value))


def test_no_training_at_all():
    tree = _put(TREE, ("train",), {"steps": "0it"})
    assert _found(tree | {"prune": {}})[0] == (
        "train.steps",
        "expected at least one step, got 0it; write for example 600it",
    )


def test_levels_are_held_against_the_default_where_none_are_given():
    tree = {"controls": [{"name": "reinit", "levels": [8, 9]}]}
    assert [where for where, _ in _found(tree)] == ["controls.0.levels.1"]


def test_a_probe_without_a_name_is_the_only_one_there_is():
    tree = {"probes": [{"levels": [1]}, {"name": "perturb-rest", "levels": [2]}]}
    assert [where for where, _ in _found(tree)] == ["probes.1.name"]


def test_steps_in_different_units_are_not_compared():
    assert _found(_put(TREE, ("prune", "rewind"), "2ep")) == []


def test_every_breach_is_found_not_only_the_first():
    tree = TREE
    for path, value, _ in (BROKEN[1], BROKEN[2], BROKEN[4], BROKEN[7]):
        tree = _put(tree, path, value)
    assert [where for where, _ in _found(tree)] == [
        "probes.0.levels.0",
        "export.level",
        "controls.0.levels.1",
        "train.eval_every",
    ]


junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just([]), st.just({}))
paths = st.sampled_from([path[:length] for path, _, _ in BROKEN for length in range(1, len(path) + 1)])


@given(st.lists(st.tuples(paths, junk), min_size=1, max_size=3))
def test_ill_typed_fields_are_left_to_their_own_faults(changes):
    tree = TREE
    for path, value in changes:
        try:
            tree = _put(tree, path, value)
        except (KeyError, IndexError, TypeError):
            continue
    for misfit in rules(tree, 8):
        assert misfit.path
