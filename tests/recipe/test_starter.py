from __future__ import annotations

import re

import pytest

from sparsify.recipe.load import load_prune_recipe, load_recipe
from sparsify.recipe.prune_spec import FinetuneSpec
from sparsify.recipe.starter import starter_yaml
from sparsify.recipe.step import Step


@pytest.mark.parametrize("name", ["recipe", "mine", "lenet.v2_a-b", "a" * 64])
def test_the_starter_is_a_recipe_of_that_name(tmp_path, name):
    path = tmp_path / "f.yaml"
    path.write_text(starter_yaml(name))
    assert load_recipe(path).name == name


@pytest.mark.parametrize("name", ["recipe", "mine", "lenet.v2_a-b"])
def test_the_starter_of_prune_is_a_recipe_of_that_name_and_says_what_is_the_default(tmp_path, name):
    text = starter_yaml(name, "prune")
    recipe = load_prune_recipe(text, "f.yaml", [])
    assert recipe.name == name
    assert recipe.recovery.finetune == FinetuneSpec(steps=Step(3, "ep"))
    lines = text.splitlines()
    tops = [i for i, line in enumerate(lines) if line[:1].isalpha()]
    assert [lines[i] for i in tops if not lines[i - 1].startswith("#")] == ["description: My first pruned network."]
    [override] = re.findall(r"--set (\S+=\S+)", text)
    assert load_prune_recipe(text, "f.yaml", [override]).target.sparsity == 0.9


@pytest.mark.parametrize("name", ["My Recipe", "-x", "", "a" * 65, "é"])
def test_a_name_no_recipe_may_have_is_left_out(tmp_path, name):
    path = tmp_path / "f.yaml"
    path.write_text(starter_yaml(name))
    assert load_recipe(path).name == "recipe"


def test_what_is_commented_out_is_valid_when_taken_in(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(
        starter_yaml("x").replace("# probes:", "probes:").replace("#   - {name: perturb", "  - {name: perturb")
    )
    assert load_recipe(path).probes[0].levels == (3, 6)


def test_every_part_has_a_comment_above_it():
    lines = starter_yaml("x").splitlines()
    tops = [i for i, line in enumerate(lines) if line[:1].isalpha()]
    bare = [lines[i] for i in tops if not lines[i - 1].startswith("#")]
    assert bare == ["description: My first winning tickets."]
    assert len(tops) >= 10


def test_the_command_in_its_comments_is_valid(tmp_path):
    text = starter_yaml("x")
    path = tmp_path / "f.yaml"
    path.write_text(text)
    overrides = re.findall(r"--set (\S+=\S+)", text)
    assert len(overrides) == 2
    assert load_recipe(path, overrides) != load_recipe(path)
