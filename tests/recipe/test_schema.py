from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from sparsify.recipe.load import is_prune_recipe, with_tuples
from sparsify.recipe.schema import recipe_schema, schema_text
from sparsify.recipe.spec import Recipe
from sparsify.recipe.starter import starter_yaml

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PRUNE = [path for path in sorted(RECIPES.glob("*.yaml")) if is_prune_recipe(path)]
SHIPPED = [path for path in sorted(RECIPES.glob("*.yaml")) if path not in PRUNE]
SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def plain(text: str) -> Any:
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))


def described(schema: Any, where: str = "") -> Iterator[tuple[str, bool]]:
    """Every property below `schema`, and whether a sentence says what it is."""
    if isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield f"{where}.{name}", field.get("description", "").endswith(".")
        for name, below in schema.items():
            yield from described(below, f"{where}.{name}")
    elif isinstance(schema, list):
        for i, below in enumerate(schema):
            yield from described(below, f"{where}.{i}")


both_schemas = pytest.mark.parametrize("schema", [SCHEMA, recipe_schema("prune")], ids=["tickets", "prune"])


@both_schemas
def test_it_is_a_schema_of_draft_2020_12(schema: dict[str, Any]):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@both_schemas
def test_every_field_is_described(schema: dict[str, Any]):
    fields = list(described(schema))
    assert len(fields) > 60
    assert [where for where, is_described in fields if not is_described] == []
    assert all(definition["description"] for definition in schema["$defs"].values())


@both_schemas
def test_every_default_fits_its_own_field(schema: dict[str, Any]):
    for definition in [schema, *schema["$defs"].values()]:
        for name, field in definition["properties"].items():
            if "default" in field:
                validator = Draft202012Validator({**field, "$defs": schema["$defs"]})
                assert validator.is_valid(field["default"]), (definition["title"], name)


def test_the_committed_schemas_are_the_printed_ones():
    assert (RECIPES / "recipe.schema.json").read_text() == schema_text()
    assert (RECIPES / "prune.schema.json").read_text() == schema_text("prune")


@pytest.mark.parametrize("path", PRUNE, ids=lambda path: path.stem)
def test_shipped_prune_recipes_fit_their_schema(path):
    validator = Draft202012Validator(recipe_schema("prune"))
    assert [error.message for error in validator.iter_errors(plain(path.read_text()))] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_schema(path):
    assert [error.message for error in VALIDATOR.iter_errors(plain(path.read_text()))] == []


def test_the_starter_fits_the_schema():
    assert [error.message for error in VALIDATOR.iter_errors(plain(starter_yaml("x")))] == []


def test_data_may_be_a_name_alone():
    tree = plain(SHIPPED[0].read_text())
    assert VALIDATOR.is_valid(tree | {"data": "digits"})
    assert not VALIDATOR.is_valid(tree | {"data": 3})


FULL = json.loads(
    Recipe.model_validate(plain((RECIPES / "fashion-resnet20-rewind.yaml").read_text())).model_dump_json()
)
FULL["probes"] = [{"name": "perturb-rest", "levels": [1], "redraws": 5, "scales": [0.0]}]


def _paths(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


values = st.one_of(
    st.sampled_from(
        [None, True, False, "", "x", "600it", "600", "auto", "digits", "none", [], {}, [1], ["x"], {"a": 1}]
    ),
    st.integers(-2, 120),
    st.floats(-1.0, 2.0).filter(lambda number: not number.is_integer()),
)


@settings(max_examples=300)
@given(st.sampled_from(list(_paths(FULL))), values)
def test_schema_and_models_agree_on_any_changed_value(path, value):
    tree = copy.deepcopy(FULL)
    here = tree
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    try:
        Recipe.model_validate(with_tuples(tree), strict=True)
        accepted = True
    except ValidationError as error:
        # what holds between fields is beyond a schema
        accepted = all("error" in details.get("ctx", {}) and not _is_step(details) for details in error.errors())
    assert VALIDATOR.is_valid(tree) == accepted, (path, value)


def _is_step(details: Any) -> bool:
    return "epochs or iterations" in details["msg"]
