from __future__ import annotations

from pathlib import Path

import pytest

from sparsify.errors import InputOutputError, RecipeError, UsageError
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.faults import Fault
from sparsify.recipe.load import load_recipe
from sparsify.recipe.misfit import Misfit
from sparsify.recipe.spec import AdamSpec, Recipe, SgdSpec
from sparsify.recipe.step import Step

DIGITS = Path(__file__).resolve().parents[2] / "recipes" / "digits.yaml"
SMALLEST = "name: x\nmodel: mlp:64-10\ndata: digits\ntrain: {steps: 1it}\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a recipe from its text, as the file `f`."""
    monkeypatch.chdir(tmp_path)

    def from_text(text: str, *overrides: str, checks=()) -> Recipe:
        Path("f").write_text(text)
        return load_recipe(Path("f"), overrides, checks)

    return from_text


@pytest.fixture
def faults(load):
    """The faults of a recipe's text, each as its line."""

    def of_text(text: str, *overrides: str, checks=()) -> list[str]:
        with pytest.raises(RecipeError) as raised:
            load(text, *overrides, checks=checks)
        assert all(isinstance(fault, Fault) for fault in raised.value.faults)
        assert str(raised.value) == "\n".join(map(str, raised.value.faults))
        return [str(fault) for fault in raised.value.faults]

    return of_text


def test_the_smallest_recipe_takes_every_default(load):
    recipe = load(SMALLEST)
    assert recipe.data.source == "digits"
    assert recipe.train.steps == Step(1, "it")
    assert recipe.prune.rewind == Step(0, "it")
    assert recipe == Recipe.model_validate(
        {"name": "x", "model": "mlp:64-10", "data": "digits", "train": {"steps": "1it"}}
    )


def test_every_kind_of_field_is_read(load):
    recipe = load(
        SMALLEST.replace(
            "{steps: 1it}", "{steps: 9ep, optimizer: {name: sgd, lr: 1, nesterov: true}, gradient_clip: 1e-3}"
        )
        + "prune: {rewind: learning-rate, overrides: {b: 0, a*: 5e-1}}\ncontrols: [{name: reinit, levels: [1, 8]}]\n"
        + "export: {level: 3}\ngate: {speedup: null}\n"
    )
    assert recipe.train.optimizer == SgdSpec(lr=1.0, nesterov=True)
    assert recipe.train.gradient_clip == 0.001
    assert recipe.prune.rewind == "learning-rate"
    assert list(recipe.prune.overrides.items()) == [("b", 0.0), ("a*", 0.5)]
    assert recipe.controls[0].levels == (1, 8)
    assert recipe.export.level == 3
    assert recipe.gate.speedup is None


# one fault each: (where to put it, line, the fault after `f:`)
ONE_FAULT = [
    ("nme: y", "5:1: nme: expected one of the keys name, description, seed, "),
    ("nme: y", ", got the unknown key 'nme'; did you mean name?"),
    ("zzz: y", ", got the unknown key 'zzz'; remove it"),
    ("prune: {lvels: 3}", "5:9: prune.lvels: expected one of the keys levels, prune_fraction, overrides, scope"),
    (
        "prune: {levels: '3'}",
        "5:17: prune.levels: expected a whole number, got '3'; write a plain number, without quotes",
    ),
    ("prune: {levels: 3.0}", "5:17: prune.levels: expected a whole number, got the number 3.0"),
    ("prune: {levels: true}", "5:17: prune.levels: expected a whole number, got true"),
    (
        "prune: {levels: 0}",
        "5:17: prune.levels: expected a number of at least 1, got the number 0; write a number of at",
    ),
    ("prune: {levels: 101}", "5:17: prune.levels: expected a number of at most 100, got the number 101"),
    ("prune: {levels: }", "5:9: prune.levels: expected a whole number, got nothing (null)"),
    ("prune: {levels: 1_0}", "5:17: prune.levels: expected a whole number, got '1_0'"),
    ("prune: 3", "5:8: prune: expected a mapping, got the number 3; write it as {key: value}"),
    ("prune: {prune_fraction: 1}", "5:25: prune.prune_fraction: expected a number below 1, got the number 1"),
    ("prune: {prune_fraction: 0.0}", "5:25: prune.prune_fraction: expected a number above 0, got the number 0.0"),
    ("prune: {prune_fraction: .nan}", "5:25: prune.prune_fraction: expected a finite number, got the number nan"),
    ("prune: {prune_fraction: '.2'}", "5:25: prune.prune_fraction: expected a number, got '.2'; write a plain number"),
    ("prune: {overrides: {output.weight: 2}}", "5:36: prune.overrides.output.weight: expected a number below 1"),
    ("prune: {overrides: [1]}", "5:20: prune.overrides: expected a mapping, got a list of 1 item"),
    ("prune: {scope: gobal}", "5:16: prune.scope: expected global or per-layer, got 'gobal'; did you mean global?"),
    (
        "prune: {scope: 1}",
        "5:16: prune.scope: expected global or per-layer, got the number 1; write global or per-layer",
    ),
    (
        "prune: {rewind: lr}",
        "5:17: prune.rewind: expected epochs or iterations such as 10ep or 2000it or learning-rate or",
    ),
    ("prune: {rewind: learning_rate}", "got 'learning_rate'; did you mean learning-rate?"),
    ("prune: {rewind: 500}", "got the number 500; write 500it or 500ep"),
    ("replicates: yes", "5:13: replicates: expected a whole number, got 'yes'"),
    ("description: 3", "5:14: description: expected text, got the number 3; put it in quotes"),
    ("controls: reinit", "5:11: controls: expected a list, got 'reinit'; write it as [a, b]"),
    ("controls: [reinit]", "5:12: controls.0: expected a mapping, got 'reinit'"),
    (
        "controls: [{name: reinit}]",
        "5:12: controls.0.levels: expected the key levels, got none; add `levels:`. Levels at",
    ),
    (
        "export: {targets: []}",
        "5:19: export.targets: expected at least 1 of them, got 0; add what is missing, or leave",
    ),
    ("controls: [{name: reinit, levels: []}]", "5:35: controls.0.levels: expected at least 1 of them, got 0"),
    ("controls: [{name: reinit, levels: [1, x]}]", "5:39: controls.0.levels.1: expected a whole number, got 'x'"),
    ("controls: [{name: renit, levels: [1]}]", "5:19: controls.0.name: expected reinit or shuffled-mask or random-"),
    ("controls: [{name: renit, levels: [1]}]", "got 'renit'; did you mean reinit?"),
    ("export: {level: 0}", "5:17: export.level: expected auto or a number of at least 1, got the number 0; write auto"),
    ("latency: {pairs: 19}", "5:18: latency.pairs: expected a number of at least 20, got the number 19"),
    ("gate: {size: 1.5}", "5:14: gate.size: expected a number of at most 1, got the number 1.5"),
    ("gate: {sizes: 1}", "got the unknown key 'sizes'; did you mean size?"),
    (
        "compute: {workers: many}",
        "5:20: compute.workers: expected a whole number or auto, got 'many'; write a plain number",
    ),
]


@pytest.mark.parametrize(("line", "fault"), ONE_FAULT)
def test_a_fault_is_located_named_and_told_how_to_mend(faults, line, fault):
    [found] = faults(SMALLEST + line + "\n")
    assert found.startswith("f:5:")
    assert fault in found
    assert "\n" not in found


TRAIN_FAULT = [
    ("{}", "f:4:1: train.steps: expected the key steps, got none; add `steps:`. Length of one training"),
    (
        "{steps: 600}",
        "f:4:16: train.steps: expected epochs or iterations such as 10ep or 2000it, got the number 600; write",
    ),
    ("{steps: 1it, batch_size: 0}", "f:4:33: train.batch_size: expected a number of at least 1, got the number 0"),
    ("{steps: 1it, optimizer: {lr: 1}}", "train.optimizer: expected a `name:` among sgd, adam, adamw, got none; add"),
    ("{steps: 1it, optimizer: {name: adm}}", "train.optimizer.name: expected sgd or adam or adamw, got 'adm'; did you"),
    (
        "{steps: 1it, optimizer: {name: sgd, eps: 1}}",
        "train.optimizer.eps: expected one of the keys name, lr, momentum,",
    ),
    (
        "{steps: 1it, optimizer: {name: adam, adam: 1}}",
        "f:4:45: train.optimizer.adam: expected one of the keys name, lr",
    ),
    ("{steps: 1it, optimizer: {name: adam, lr: no}}", "f:4:49: train.optimizer.lr: expected a number, got 'no'"),
    ("{steps: 1it, optimizer: {name: adam, lr: 0}}", "train.optimizer.lr: expected a number above 0, got the number 0"),
    ("{steps: 1it, optimizer: {name: adam, betas: [0.9]}}", "train.optimizer.betas: expected at least 2 of them"),
    (
        "{steps: 1it, optimizer: {name: adam, betas: [1, 1, 1]}}",
        "train.optimizer.betas: expected at most 2 of them, got 3",
    ),
    ("{steps: 1it, optimizer: adam}", "train.optimizer: expected a mapping, got 'adam'; write it as {key: value}"),
    ("{steps: 1it, augment: {flip: yes}}", "f:4:37: train.augment.flip: expected true or false, got 'yes'; write true"),
    ("{steps: 1it, augment: {flip: Off}}", "train.augment.flip: expected true or false, got 'Off'; write false"),
    ("{steps: 1it, augment: {flip: 1}}", "train.augment.flip: expected true or false, got the number 1; write true or"),
    ("{steps: 1it, gradient_clip: .inf}", "train.gradient_clip: expected a finite number, got the number inf"),
    (
        "{steps: 1it, schedule: {name: multistep}}",
        "train.schedule.milestones: expected milestones for multistep, got none",
    ),
    (
        "{steps: 9it, schedule: {name: cosine, milestones: [3it]}}",
        "f:4:58: train.schedule.milestones: expected no milestones for cosine, got some; remove them, or write name: m",
    ),
    (
        "{steps: 1it, optimizer: {name: sgd, nesterov: true, momentum: 0}}",
        "f:4:54: train.optimizer.nesterov: expected momentum above 0, got momentum 0; write nesterov: false",
    ),
]


@pytest.mark.parametrize(("train", "fault"), TRAIN_FAULT)
def test_a_fault_of_training_is_located(faults, train, fault):
    [found] = faults(SMALLEST.replace("{steps: 1it}", train))
    assert fault in found


def test_a_name_that_makes_no_folder_is_refused(faults):
    [found] = faults(SMALLEST.replace("name: x", "name: My Run"))
    assert found.startswith("f:1:7: name: expected text that matches ^[a-z0-9]")
    assert found.endswith(
        "got 'My Run'; lower-case letters, digits, dots, dashes and underscores, a letter or digit first"
    )


def test_what_is_required_is_asked_for_with_its_meaning(faults):
    found = faults("name: x\n")
    assert [fault.split(": ")[1] for fault in found] == ["model", "data", "train"]
    assert found[0] == (
        "f:1:1: model: expected the key model, got none; add `model:`. "
        "A model's name (`sparsify ls models`) or `mlp:784-512-10`."
    )


@pytest.mark.parametrize(
    ("text", "got"),
    [("", "an empty file"), ("# hm\n", "an empty file"), ("- a\n", "a list of 1 item"), ("digits\n", "'digits'")],
)
def test_the_top_must_be_a_mapping(faults, text, got):
    [found] = faults(text)
    assert f"recipe: expected a mapping of keys at the top, got {got}; begin with name:" in found


def test_every_fault_is_reported_at_once_in_the_order_of_the_file(faults):
    found = faults(
        "name: Bad Name\n"
        "model: &m lenet-300-100\n"
        "data: digits\n"
        "train:\n"
        "  optimiser: {name: adam}\n"
        "  steps: 600\n"
        "prune:\n"
        "  levels: 3\n"
        "  levels: 4\n"
        "  rewind: lr\n"
        "controls:\n"
        "  - {name: reinit, levels: [3, 9]}\n"
        "gate: *m\n"
        "extra: 1\n"
    )
    assert [fault.split(": ")[:2] for fault in found] == [
        ["f:1:7", "name"],
        ["f:2:8", "model"],
        ["f:5:3", "train.optimiser"],
        ["f:6:10", "train.steps"],
        ["f:9:3", "prune.levels"],
        ["f:10:11", "prune.rewind"],
        ["f:12:32", "controls.0.levels.1"],
        ["f:13:7", "gate"],
        ["f:14:1", "extra"],
    ]


def test_a_syntax_error_is_the_only_fault(faults):
    [found] = faults("nme: [1\n")
    assert "expected valid YAML" in found


def test_a_value_broken_on_any_line_is_found_on_that_line(tmp_path):
    lines = resolved_yaml(load_recipe(DIGITS)).splitlines()
    plain = [i for i, line in enumerate(lines) if not line.endswith(":")]
    assert len(plain) > 50
    path = tmp_path / "f.yaml"
    for i in plain:
        key = lines[i].partition(":")[0]
        path.write_text("\n".join([*lines[:i], f"{key}: {{no-such: thing}}", *lines[i + 1 :]]))
        with pytest.raises(RecipeError) as raised:
            load_recipe(path)
        assert {fault.place.line for fault in raised.value.faults} == {i + 1}, lines[i]
        assert all(key.strip(" -") in fault.path for fault in raised.value.faults), lines[i]


def test_checks_from_above_see_the_tree_and_their_misfits_are_located(faults):
    def no_digits(tree):
        if tree["data"]["source"] == "digits":
            yield Misfit(("data", "source"), expected="harder data", got="'digits'", mend="try fashion-mnist")

    assert faults(SMALLEST, checks=[no_digits]) == [
        "f:3:7: data.source: expected harder data, got 'digits'; try fashion-mnist"
    ]
    long_form = SMALLEST.replace("data: digits", "data:\n  source: digits")
    assert faults(long_form, checks=[no_digits])[0].startswith("f:4:11: data.source: ")


def test_a_missing_file_is_no_recipe_fault(tmp_path):
    with pytest.raises(InputOutputError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_a_malformed_override_is_a_usage_error(load):
    with pytest.raises(UsageError, match=r"--set prune\.levels: expected PATH=VALUE, got 'prune\.levels'; write"):
        load(SMALLEST, "prune.levels")


def test_the_default_optimizer_is_adam_as_the_paper_says(load):
    assert load(SMALLEST).train.optimizer == AdamSpec(lr=1.2e-3)
