"""Every shipped recipe: what its first line says to editors, what its comments promise, that it loads."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from sparsify.pipeline.names import load_checked, load_checked_prune
from sparsify.recipe.load import is_prune_recipe
from sparsify.recipe.step import Step

EVERY = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
PRUNE = [path for path in EVERY if is_prune_recipe(path)]
SHIPPED = [path for path in EVERY if path not in PRUNE]
each_recipe = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def _commands(path: Path) -> list[list[str]]:
    """The `sparsify run` lines of a recipe's comments, as a shell would split them."""
    return [shlex.split(line) for line in re.findall(r"^# .*?(sparsify run .*)$", path.read_text(), flags=re.MULTILINE)]


def test_those_asked_for_are_there():
    names = {path.stem for path in SHIPPED}
    assert {"digits", "fashion-lenet", "fashion-conv2", "fashion-perturb-rest", "fashion-resnet20-rewind"} <= names


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_its_first_line_names_the_schema_beside_it(path):
    first = path.read_text().splitlines()[0]
    schema = "prune.schema.json" if path in PRUNE else "recipe.schema.json"
    assert first == f"# yaml-language-server: $schema={schema}"
    assert (path.parent / schema).is_file()


@pytest.mark.parametrize("path", PRUNE, ids=lambda path: path.stem)
def test_a_prune_recipe_loads_and_is_called_as_its_file(path):
    recipe = load_checked_prune(path.read_text(), str(path))
    assert recipe.name == path.stem
    assert 20 < len(recipe.description) < 120
    assert f"sparsify prune recipes/{path.name}" in path.read_text()


@each_recipe
def test_it_loads_and_is_called_as_its_file_and_says_what_it_is(path):
    recipe = load_checked(path)
    assert recipe.name == path.stem
    assert 20 < len(recipe.description) < 120


@each_recipe
def test_the_commands_in_its_comments_are_valid(path):
    commands = _commands(path)
    assert len(commands) >= 2
    for sparsify, run, recipe, *options in commands:
        assert (sparsify, run, recipe) == ("sparsify", "run", f"recipes/{path.name}")
        assert options[::2] == ["--set"] * (len(options) // 2)
        load_checked(path, options[1::2])


@each_recipe
def test_its_overrides_name_weights_that_its_model_has(path):
    from sparsify.models.build import build, prunable

    recipe = load_checked(path)
    classes, shape = 10, (1, 8, 8) if recipe.data.source == "digits" else (1, 28, 28)
    names = prunable(build(recipe.model, input_shape=shape, classes=classes, seed=0))
    for pattern in recipe.prune.overrides:
        assert any(fnmatchcase(name, pattern) for name in names), (pattern, names)


def test_lenet_is_set_up_as_the_paper_says():
    recipe = load_checked("fashion-lenet")
    assert recipe.model == "lenet-300-100"
    assert (recipe.train.optimizer.name, recipe.train.optimizer.lr) == ("adam", 1.2e-3)
    assert (recipe.train.batch_size, recipe.train.steps, recipe.train.eval_every) == (
        60,
        Step(10_000, "it"),
        Step(250, "it"),
    )
    assert (recipe.prune.levels, recipe.prune.prune_fraction) == (15, 0.2)
    assert recipe.prune.overrides == {"output.weight": 0.1}
    assert (recipe.prune.scope, recipe.prune.rewind, recipe.replicates) == ("per-layer", Step(0, "it"), 5)
    assert {control.name: control.levels for control in recipe.controls} == dict.fromkeys(
        ("reinit", "random-mask", "shuffled-mask"), (7, 9, 11, 15)
    )
    assert round(60_000 * recipe.data.validation) == 5_000


def test_the_probe_is_run_on_ten_tickets_that_share_nothing():
    recipe = load_checked("fashion-perturb-rest")
    [probe] = recipe.probes
    assert (len(probe.levels), probe.redraws, recipe.replicates) == (1, 5, 10)


def test_conv2_is_set_up_as_the_paper_says():
    recipe = load_checked("fashion-conv2")
    assert (recipe.model, recipe.train.optimizer.lr, recipe.train.steps) == ("conv-2", 2e-4, Step(20_000, "it"))
    assert (recipe.prune.prune_fraction, recipe.prune.overrides) == (0.2, {"conv*.weight": 0.1, "output.weight": 0.1})


def test_resnet_is_set_up_as_the_paper_says():
    recipe = load_checked("fashion-resnet20-rewind")
    assert (recipe.model, recipe.train.steps, recipe.train.batch_size) == ("resnet-20", Step(160, "ep"), 128)
    assert recipe.train.optimizer.model_dump() == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
    }
    assert recipe.train.schedule.milestones == (Step(80, "ep"), Step(120, "ep"))
    assert (recipe.train.augment.flip, recipe.train.augment.crop) == (True, 4)
    assert (recipe.prune.scope, recipe.prune.prune_fraction, recipe.prune.rewind) == ("global", 0.2, Step(500, "it"))
