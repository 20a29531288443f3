from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch

from sparsify.criteria.catalogue import CRITERIA as SUMMARIES
from sparsify.criteria.registry import CRITERIA
from sparsify.recipe.spec import PruneSpec

WEIGHTS = {"a": torch.tensor([[1.0, -2.0], [0.0, -0.5]]), "b": torch.tensor([3.0])}


def test_catalogue_registry_and_recipe_name_the_same_criteria():
    named = set(get_args(PruneSpec.model_fields["criterion"].annotation))
    assert set(CRITERIA) == set(SUMMARIES) == named


def test_the_catalogue_is_read_without_torch():
    code = "import sys, sparsify.criteria.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", CRITERIA)
def test_scores_have_the_weights_shapes_repeat_by_seed_and_leave_weights_and_global_state_alone(name: str):
    weights = {key: torch.nn.Parameter(value.clone()) for key, value in WEIGHTS.items()}
    state = torch.get_rng_state()
    scores = CRITERIA[name](weights, 7)
    assert {key: value.shape for key, value in scores.items()} == {key: value.shape for key, value in WEIGHTS.items()}
    assert all(not score.requires_grad and bool(torch.isfinite(score).all()) for score in scores.values())
    assert all(torch.equal(weights[key], value) for key, value in WEIGHTS.items())
    assert torch.equal(torch.get_rng_state(), state)
    again = CRITERIA[name](weights, 7)
    assert all(torch.equal(scores[key], again[key]) for key in scores)


def test_magnitude_is_the_absolute_value():
    assert CRITERIA["magnitude"](WEIGHTS, 0)["a"].tolist() == [[1.0, 2.0], [0.0, 0.5]]


def test_random_scores_are_uniform_and_differ_by_seed():
    weights = {"a": torch.zeros(10_000), "b": torch.zeros(10_000)}
    scores = CRITERIA["random"](weights, 0)
    other = CRITERIA["random"](weights, 1)
    assert not torch.equal(scores["a"], other["a"])
    assert not torch.equal(scores["a"], scores["b"])
    counts = torch.histc(scores["a"], bins=10, min=0, max=1)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
