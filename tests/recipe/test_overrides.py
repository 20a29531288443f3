from __future__ import annotations

import pytest

from sparsify.errors import RecipeError, UsageError
from sparsify.recipe.load import load_recipe
from sparsify.recipe.spec import AdamSpec, ControlSpec, Recipe, SgdSpec
from sparsify.recipe.step import Step

TEXT = """\
name: x
model: mlp:64-10
data: digits
train:
  steps: 600it
  optimizer: {name: sgd, lr: 0.1}
prune: {levels: 4, overrides: {output.weight: 0.1, "*": 0.3}}
controls:
  - {name: reinit, levels: [1]}
  - {name: random-mask, levels: [2]}
gate:
"""


@pytest.fixture
def load(tmp_path):
    """Load the recipe above, which by itself has one fault (`gate` is empty), with overrides."""
    path = tmp_path / "f"
    path.write_text(TEXT)

    def with_overrides(*overrides: str) -> Recipe:
        return load_recipe(path, overrides)

    return with_overrides


def faults(load, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        load("gate={}", *overrides)
    return [str(fault) for fault in raised.value.faults]


def test_an_override_mends_what_is_wrong_in_the_file(load):
    with pytest.raises(RecipeError, match=r"f:11:1: gate: expected a mapping, got nothing"):
        load()
    assert load("gate={}").gate.size is None
    assert load("gate.size=0.5").gate.size == 0.5


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("prune.levels=3", lambda recipe: recipe.prune.levels, 3),
        ("seed=7", lambda recipe: recipe.seed, 7),
        ("train.steps=2ep", lambda recipe: recipe.train.steps, Step(2, "ep")),
        ("train.optimizer.lr=1e-3", lambda recipe: recipe.train.optimizer, SgdSpec(lr=1e-3)),
        ("train.optimizer={name: adam}", lambda recipe: recipe.train.optimizer, AdamSpec()),
        ("train.schedule.name=cosine", lambda recipe: recipe.train.schedule.name, "cosine"),
        ("data.validation=0.25", lambda recipe: (recipe.data.source, recipe.data.validation), ("digits", 0.25)),
        ("data=npz:a=b.npz", lambda recipe: recipe.data.source, "npz:a=b.npz"),
        ("description='a: b'", lambda recipe: recipe.description, "a: b"),
        ("description=  a b ", lambda recipe: recipe.description, "a b"),
        ("controls.0.levels=[1, 2]", lambda recipe: recipe.controls[0].levels, (1, 2)),
        ("controls.1.levels.0=4", lambda recipe: recipe.controls[1].levels, (4,)),
        ("controls.1.levels.1=4", lambda recipe: recipe.controls[1].levels, (2, 4)),
        (
            "controls.2={name: one-shot, levels: [4]}",
            lambda recipe: recipe.controls[2],
            ControlSpec(name="one-shot", levels=(4,)),
        ),
        ("controls=[]", lambda recipe: recipe.controls, ()),
        ("probes.0.levels=[4]", lambda recipe: recipe.probes[0].levels, (4,)),
        ("export.targets.0=tensorrt", lambda recipe: recipe.export.targets, ("tensorrt",)),
        (
            "prune.overrides.output.weight=0.2",
            lambda recipe: dict(recipe.prune.overrides),
            {"output.weight": 0.2, "*": 0.3},
        ),
        ("prune.overrides.*=0", lambda recipe: list(recipe.prune.overrides), ["output.weight", "*"]),
        ("prune.overrides={}", lambda recipe: dict(recipe.prune.overrides), {}),
        ("gate.size=null", lambda recipe: recipe.gate.size, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_sets_its_field(load, override, read, value):
    assert read(load("gate={}", override)) == value


def test_the_last_of_several_wins(load):
    assert load("gate={}", "prune.levels=3", "seed=1", "prune.levels=2").prune.levels == 2


def test_a_whole_part_and_then_one_of_its_fields(load):
    recipe = load("gate={}", "prune={levels: 9}", "prune.scope=global")
    assert (recipe.prune.levels, recipe.prune.scope, dict(recipe.prune.overrides)) == (9, "global", {})


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("prune.lvels=3", "prune.lvels: expected one of the keys levels, "),
        ("prune.lvels=3", "got the unknown key 'lvels'; did you mean levels?"),
        ("prune.levels=x", "prune.levels: expected a whole number, got 'x'; write a plain number"),
        ("prune.levels=", "prune.levels: expected a whole number, got nothing (null)"),
        ("model=null", "model: expected text, got nothing (null)"),
        ("name.x=3", "name.x: expected a path to a field, where name holds none, got name = 'x'; set name itself"),
        (
            "controls.9.levels=[1]",
            "controls.9: expected an index of controls from 0 to 2, got '9'; it has 2 items; 2 app",
        ),
        ("controls.-1.levels=[1]", "controls.-1: expected an index of controls from 0 to 2, got '-1'"),
        ("controls.name.levels=[1]", "controls.name: expected an index of controls from 0 to 2, got 'name'"),
        ("prune.overrides.a.b=2", "prune.overrides.a.b: expected a number below 1, got the number 2"),
        ("seed=[1", "seed: expected valid YAML, got a syntax error"),
        ("seed=&a 1", "seed: expected a value without an anchor, got &a; remove the anchor"),
        ("seed=*a", "seed: expected a value, got the alias *a; write the value out"),
        ("seed=!x 1", "seed: expected a value without a tag, got '!x'; remove the tag"),
        (
            "gate={size: 1, size: 1}",
            "gate.size: expected each key once, got it again after line 1; remove one of the two",
        ),
        ("controls.0.levels=[5]", "controls.0.levels.0: expected a level up to prune.levels, 4, got the number 5"),
    ],
)
def test_a_fault_of_an_override_names_the_override(load, override, fault):
    [found] = faults(load, override)
    assert found.startswith(f"--set {override}: ")
    assert fault in found


def test_faults_of_overrides_come_after_the_files_and_in_their_order(load, tmp_path):
    (tmp_path / "f").write_text(TEXT.replace("name: x", "nme: x"))
    found = faults(load, "seed=b", "replicates=a")
    assert [fault.split(": ")[0].rpartition("/")[2] for fault in found] == [
        "f:1:1",
        "f:1:1",
        "--set seed=b",
        "--set replicates=a",
    ]


def test_an_override_of_what_the_file_may_not_say_still_leaves_that_a_fault(load, tmp_path):
    (tmp_path / "f").write_text(TEXT.replace("levels: 4", "levels: &a 4"))
    [found] = faults(load, "prune.levels=3")
    assert "without an anchor" in found


@pytest.mark.parametrize("text", ["prune.levels", "", "=3", "a..b=3", ".a=3", "a.=3", "prune levels: 3"])
def test_what_is_no_assignment_is_a_usage_error(load, text):
    with pytest.raises(UsageError, match=r"expected PATH=VALUE, got .*; write for example --set replicates=3"):
        load(text)
