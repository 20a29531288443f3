from __future__ import annotations

import pytest

from sparsify.pipeline.plan import Plan
from sparsify.recipe.spec import DataSpec, ExportSpec, Recipe, SparseSpec, TrainSpec
from sparsify.recipe.step import Step
from sparsify.store.resolved import differences

TARGETS = ("onnxruntime-cpu", "sparse-cpu")


def recipe(sparse: SparseSpec | None) -> Recipe:
    export = ExportSpec(targets=TARGETS, sparse=sparse)
    train = TrainSpec(steps=Step(1, "it"))
    return Recipe(name="x", model="mlp:64-10", data=DataSpec(source="digits"), train=train, export=export)


def exports(sparse: SparseSpec | None) -> dict[str, dict[str, object]]:
    return {stage.path: stage.spec_json() for stage in Plan(recipe(sparse), "0" * 64, "cpu").exports(0, 1)}


def test_precision_is_for_the_target_that_skips_zeros_alone():
    plain, asked = exports(None), exports(SparseSpec(precision="i8", min_sparsity=0.7))
    assert asked["export/onnxruntime-cpu"] == plain["export/onnxruntime-cpu"]
    added = {"sparse": {"precision": "i8", "min_sparsity": 0.7}}
    assert asked["export/sparse-cpu"] == plain["export/sparse-cpu"] | added


@pytest.mark.parametrize("target", TARGETS)
def test_left_out_it_is_in_no_key_so_that_earlier_runs_stay_valid(target: str):
    assert set(exports(None)[f"export/{target}"]) == {"target", "batch_sizes", "data", "allow_import", "trained"}


def test_left_out_it_is_the_recipe_of_earlier_runs():
    new = recipe(None).model_dump(mode="json")
    old = new | {"export": {name: value for name, value in new["export"].items() if name != "sparse"}}
    assert list(differences(old, new)) == []
    assert list(differences(old, recipe(SparseSpec()).model_dump(mode="json")))
