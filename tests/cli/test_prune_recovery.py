from __future__ import annotations

from typing import Any

import pytest

from sparsify.cli.prune_options import recipe_of
from sparsify.cli.prune_recovery import recovery, recovery_in_words
from sparsify.errors import UsageError
from sparsify.recipe.prune_recipe import PruneRecipe

VIT = "timm:vit_tiny_patch16_224"


def recipe(model: str = "mlp:64-8-10", length: str = "3ep", **options: Any) -> PruneRecipe:
    asked = {"lr": None, "batch_size": None, "schedule": None} | options
    tree = {"kind": "prune", "name": "a", "trained": {"model": model}, "data": "digits", "target": {"sparsity": 0.5}}
    return recipe_of(tree | {"recovery": recovery(model, length, **asked)}, [])


def test_without_options_it_is_the_recipes_own_default():
    tuned = recipe().recovery.finetune
    assert tuned is not None and tuned.model_fields_set == {"steps"}
    assert recovery("mlp:4-2", "none", lr=None, batch_size=None, schedule=None) == {}


@pytest.mark.parametrize(
    ("length", "warm_up"), [("3ep", "50it"), ("30ep", "3ep"), ("500it", "50it"), ("5it", "0it")], ids=str
)
def test_transformers_are_tuned_by_adamw_with_warm_up_and_short_gradients(length: str, warm_up: str):
    tuned = recipe(VIT, length).recovery.finetune
    assert tuned is not None
    assert (tuned.optimizer.name, tuned.optimizer.lr, tuned.gradient_clip) == ("adamw", 1e-4, 1.0)
    assert (tuned.schedule.name, str(tuned.schedule.warmup)) == ("cosine", warm_up)


@pytest.mark.parametrize(("model", "name"), [("mlp:64-8-10", "sgd"), (VIT, "adamw")])
def test_what_is_said_changes_that_alone(model: str, name: str):
    said = recipe(model, lr=0.003, batch_size=16, schedule="linear").recovery.finetune
    plain = recipe(model).recovery.finetune
    assert said is not None and plain is not None
    assert (said.optimizer.name, said.optimizer.lr, said.batch_size, said.schedule.name) == (name, 0.003, 16, "linear")
    assert said.optimizer.model_copy(update={"lr": plain.optimizer.lr}) == plain.optimizer
    assert said.schedule.warmup == plain.schedule.warmup and said.gradient_clip == plain.gradient_clip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, r"^--lr: expected a number above 0"),
        ({"batch_size": 0}, r"^--batch-size: expected a number of at least 1"),
        ({"schedule": "cosinus"}, r"^--schedule: expected .*cosine"),
        ({"schedule": "multistep"}, r"^--schedule: expected milestones"),
        ({"length": "none", "lr": 0.1}, r"^--lr: expected fine-tuning that hears it, got --recover none"),
        ({"model": "lenet300"}, r"^--model: expected a model's name .*; did you mean lenet-300-100"),
        ({"model": "mlp:64"}, r"^--model: expected widths from input to classes"),
        ({"length": "3 epochs", "model": VIT}, r"^--recover: expected epochs or iterations"),
    ],
    ids=str,
)
def test_a_fault_names_the_option(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        recipe(**options)


def test_what_it_will_be_is_told():
    told = recovery_in_words(recipe(VIT, lr=3e-4))
    assert told.startswith(
        "recovery: 3ep of adamw, learning rate 0.0003 cosine after 50it of warm-up, gradients clipped"
    )
    assert "(timm:vit_tiny_patch16_224 is a transformer)" in told
    assert "transformer" not in recovery_in_words(recipe())
    assert recovery_in_words(recipe(length="none")) == ""
