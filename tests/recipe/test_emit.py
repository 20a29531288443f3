from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.load import is_prune_recipe, load_recipe
from sparsify.recipe.spec import Recipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
SHIPPED = [path for path in RECIPES if not is_prune_recipe(path)]

fractions = st.floats(0, 1, exclude_max=True)
printable = st.text(max_size=12)
recipes = st.builds(
    lambda description, seed, lr, overrides, levels, rewind, source, gate: Recipe.model_validate(
        {
            "name": "x",
            "description": description,
            "seed": seed,
            "model": "mlp:64-10",
            "data": {"source": source},
            "train": {"steps": "600it", "optimizer": {"name": "sgd", "lr": lr}},
            "prune": {"overrides": overrides, "rewind": rewind},
            "controls": [{"name": "reinit", "levels": sorted(levels)}],
            "gate": gate,
        }
    ),
    description=printable,
    seed=st.integers(0, 10**20),
    lr=st.floats(1e-300, 1e300),
    overrides=st.dictionaries(st.text(min_size=1, max_size=10), fractions, max_size=4),
    levels=st.sets(st.integers(1, 8), min_size=1),
    rewind=st.sampled_from(["0it", "500it", "3ep", "learning-rate", "none"]),
    source=st.sampled_from(["digits", "npz:a b: c", "npz:#1", "npz:'", 'npz:"\\', "npz:\u00e9\u2028"]),
    gate=st.fixed_dictionaries({}, optional={"size": st.just(0.5), "speedup": st.just(2)}),
)


@settings(max_examples=40)
@given(recipes)
def test_it_loads_back_to_an_equal_recipe_and_the_same_text(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    text = resolved_yaml(recipe)
    path.write_text(text, encoding="utf-8", newline="\n")
    again = load_recipe(path)
    assert again == recipe
    assert list(again.prune.overrides) == list(recipe.prune.overrides)
    assert resolved_yaml(again) == text


@settings(max_examples=40)
@given(recipes)
def test_an_independent_reader_reads_the_same_values(recipe):
    assert YAML(typ="safe", pure=True).load(resolved_yaml(recipe)) == recipe.model_dump(mode="json")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_back(tmp_path, path):
    recipe = load_recipe(path)
    (tmp_path / "f.yaml").write_text(resolved_yaml(recipe))
    assert load_recipe(tmp_path / "f.yaml") == recipe


def test_every_field_is_there_and_steps_are_as_recipes_write_them():
    recipe = load_recipe(SHIPPED[0])
    lines = resolved_yaml(recipe).splitlines()
    assert [line.partition(":")[0] for line in lines if line[0].isalpha()] == list(Recipe.model_fields)
    assert "  steps: 600it" in lines
    assert "    lr: 0.0012" in lines
    assert "  speedup: null" in lines
