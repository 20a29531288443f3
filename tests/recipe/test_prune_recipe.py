from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sparsify.recipe.prune_recipe import PruneRecipe

TREE = {"kind": "prune", "name": "a", "trained": {"model": "lenet-5"}, "data": "digits", "target": {"sparsity": 0.5}}


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:4x1", "channel"])
def test_any_pattern_can_be_shuffled(pattern: str):
    recipe = PruneRecipe.model_validate({**TREE, "removal": {"pattern": pattern, "shuffled": True}})
    assert recipe.removal.shuffled


def test_a_mask_that_moves_cannot():
    removal: dict[str, Any] = {"shuffled": True, "schedule": {"name": "gradual"}}
    tree = {**TREE, "removal": removal, "recovery": {"finetune": {"steps": "5ep"}}}
    with pytest.raises(ValidationError, match="expected a mask that is chosen once, got the schedule gradual"):
        PruneRecipe.model_validate(tree)


def test_layers_that_lost_channels_are_not_fitted_to_the_dense_ones():
    tree = TREE | {"removal": {"pattern": "channel"}, "recovery": {"reconstruct": {}}}
    with pytest.raises(ValidationError, match="no reconstruction of layers that have lost channels"):
        PruneRecipe.model_validate(tree)


def test_channels_are_not_spread_by_the_shapes_of_matrices():
    tree = TREE | {"removal": {"pattern": "channel", "allocation": "erk"}}
    with pytest.raises(ValidationError, match="expected global or uniform for the pattern channel, got erk; leave"):
        PruneRecipe.model_validate(tree)
