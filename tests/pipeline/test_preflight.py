from __future__ import annotations

from typing import Any

import pytest

from sparsify.machine import vector_width
from sparsify.pipeline.preflight import doubts, idle_search
from sparsify.recipe.prune_recipe import PruneRecipe


def recipe(pattern: str, target: dict[str, float], runtime: str = "onnxruntime-cpu", **removal: int) -> PruneRecipe:
    values: dict[str, Any] = {
        "kind": "prune",
        "name": "a",
        "trained": {"model": "lenet-300-100"},
        "data": "digits",
        "removal": {"pattern": pattern, **removal},
        "target": target,
        "export": {"targets": [runtime]},
    }
    return PruneRecipe.model_validate(values)


@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1"])
@pytest.mark.parametrize("target", [{"speedup": 2.0}, {"latency_ms": 5.0}])
def test_a_search_for_time_by_zeros_on_dense_kernels_is_told_with_its_mend(pattern: str, target: dict[str, float]):
    said = idle_search(recipe(pattern, target))
    assert said.startswith(f"target {next(iter(target))}: {pattern} leaves zeros in place, which onnxruntime-cpu")
    assert "choose the pattern channel" in said


@pytest.mark.parametrize(
    ("pattern", "target", "runtime"),
    [
        ("channel", {"speedup": 2.0}, "onnxruntime-cpu"),
        ("unstructured", {"sparsity": 0.9}, "onnxruntime-cpu"),
        ("unstructured", {"size": 1000}, "onnxruntime-cpu"),
        ("unstructured", {"speedup": 2.0}, "sparse-cpu"),
    ],
)
def test_what_can_be_found_is_searched_without_a_word(pattern: str, target: dict[str, float], runtime: str):
    assert idle_search(recipe(pattern, target, runtime)) == ""


@pytest.mark.parametrize("target", [{"speedup": 2.0}, {"latency_ms": 5.0}, {"macs": 0.5}])
def test_widths_that_runtimes_do_not_like_are_told_where_time_or_work_is_asked_for(target: dict[str, float]):
    [said] = doubts(recipe("channel", target))
    assert said.startswith("removal.round_to: left out, layers keep any number of channels")
    assert f"--round-to {vector_width()}" in said


@pytest.mark.parametrize(
    ("pattern", "target", "removal"),
    [
        ("channel", {"speedup": 2.0}, {"round_to": 8}),
        ("channel", {"macs": 0.5}, {"round_to": 1}),
        ("channel", {"sparsity": 0.5}, {}),
        ("unstructured", {"sparsity": 0.5}, {}),
    ],
    ids=["rounded", "any number asked for", "no time asked for", "no channels"],
)
def test_of_widths_nothing_is_said_elsewhere(pattern: str, target: dict[str, float], removal: dict[str, int]):
    assert doubts(recipe(pattern, target, **removal)) == []
