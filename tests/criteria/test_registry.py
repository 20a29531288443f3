from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsify.criteria.catalogue import CRITERIA as ENTRIES
from sparsify.criteria.context import Context
from sparsify.criteria.registry import CRITERIA, SOLVERS
from sparsify.errors import UsageError
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.spec import PruneSpec

Scores = Callable[[Context], dict[str, Tensor]]


def solved(context: Context) -> dict[str, Tensor]:
    """SparseGPT's new weights, so that one test serves everything that looks at a network."""
    shares = dict.fromkeys(context.names, 0.5)
    return SOLVERS["sparsegpt"](
        context.model, context.names, context.batches, pattern=Pattern.parse("unstructured"), sparsity=shares
    )[1]


EVERY: dict[str, Scores] = {**CRITERIA, "sparsegpt": solved}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


NAMES = ("0.weight", "3.weight", "6.weight")


def context_of(model: nn.Module) -> Context:
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(n, 2, 4, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)) for n in (5, 3)
    ]
    return Context(model, NAMES, 7, batches, functional.cross_entropy)


def test_catalogue_and_registry_name_the_same_criteria_and_a_recipe_some_of_them():
    assert [*CRITERIA, *SOLVERS] == list(ENTRIES)
    assert [entry.name for entry in ENTRIES.values()] == list(ENTRIES)
    assert [name for name, entry in ENTRIES.items() if entry.updates_weights] == list(SOLVERS)
    assert set(get_args(PruneSpec.model_fields["criterion"].annotation)) <= set(CRITERIA)


def test_what_a_recipe_takes_needs_no_data():
    named = get_args(PruneSpec.model_fields["criterion"].annotation)
    assert {ENTRIES[name].needs for name in named} == {"nothing"}


def test_the_catalogue_is_read_without_torch():
    code = "import sys, sparsify.criteria.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_the_network_and_the_global_random_state_are_left_as_they_were(name: str, training: bool):
    model = network().train(training)
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[6].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    scores = EVERY[name](context_of(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter is parameters[key] for key, parameter in model.named_parameters())
    assert [key for key, parameter in parameters.items() if parameter.grad is not None] == ["0.weight"]
    assert bool((model[0].weight.grad == 1).all())
    assert [key for key, parameter in parameters.items() if not parameter.requires_grad] == ["6.weight"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert list(scores) == list(NAMES)
    for key, score in scores.items():
        assert score.shape == parameters[key].shape
        assert score.is_floating_point() and not score.requires_grad and bool(torch.isfinite(score).all())


@pytest.mark.parametrize("name", EVERY)
def test_frozen_weights_and_a_caller_without_gradients_change_nothing(name: str):
    scores = EVERY[name](context_of(network()))
    frozen = network().requires_grad_(False)
    for guard in (torch.no_grad(), torch.inference_mode()):
        with guard:
            again = EVERY[name](context_of(frozen))
        assert all(torch.equal(scores[key], again[key]) for key in scores)


@pytest.mark.parametrize("name", EVERY)
def test_what_a_criterion_needs_is_asked_for_by_name(name: str):
    bare = replace(context_of(network()), batches=(), loss=None)
    needs = ENTRIES[name].needs
    if needs == "nothing":
        assert list(EVERY[name](bare)) == list(NAMES)
    else:
        with pytest.raises(UsageError, match=rf"{name}: expected calibration inputs.*--calibration N"):
            EVERY[name](bare)
    unlabelled = replace(context_of(network()), loss=None)
    if needs == "labels":
        with pytest.raises(UsageError, match=rf"{name}: expected a loss.*--calibration N"):
            EVERY[name](unlabelled)
    else:
        assert list(EVERY[name](unlabelled)) == list(NAMES)


@pytest.mark.parametrize("name", EVERY)
def test_a_name_the_network_lacks_is_refused(name: str):
    with pytest.raises(UsageError, match=r"0\.wieght"):
        EVERY[name](replace(context_of(network()), names=("0.wieght",)))


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("pattern", ["unstructured", "1:2", "block:2x2"])
def test_scores_are_what_a_selection_takes(name: str, pattern: str):
    mask = select(CRITERIA[name](context_of(network())), pattern=Pattern.parse(pattern), sparsity=0.5).mask
    assert mask.sparsity == pytest.approx(0.5, abs=0.01)
