from __future__ import annotations

from typing import Any

import pytest

from sparsify.cli.prune_options import pattern_for, run_name
from sparsify.recipe.prune_recipe import KINDS


def target(**asked: float) -> dict[str, Any]:
    return dict.fromkeys(KINDS) | asked


def test_another_pattern_or_target_is_another_run():
    asked = [target(sparsity=0.9), target(sparsity=0.5), target(speedup=2.0), target(latency_ms=2.0), target(size=2000)]
    names = [run_name("lenet-300-100", pattern, each) for pattern in ("unstructured", "block:4x1") for each in asked]
    assert names[0] == "lenet-300-100-unstructured-sparsity-0.9" and names[-1] == "lenet-300-100-block-4x1-size-2000"
    assert len(set(names)) == len(names)


def test_of_a_long_name_the_target_is_kept():
    named = [run_name("transformers:/some/where/" + "x" * 80, "channel", target(macs=each)) for each in (0.1, 0.2)]
    assert all(len(name) <= 64 for name in named)
    assert named[0].endswith("-channel-macs-0.1") and named[0] != named[1]


@pytest.mark.parametrize(
    ("asked", "runtime", "expected"),
    [
        (target(sparsity=0.9), "onnxruntime-cpu", "unstructured"),
        (target(size=1000), "onnxruntime-cpu", "unstructured"),
        (target(macs=0.5), "sparse-cpu", "channel"),
        (target(speedup=2.0), "onnxruntime-cpu", "channel"),
        (target(latency_ms=2.0), "onnxruntime-cpu", "channel"),
        (target(speedup=2.0), "sparse-cpu", "unstructured"),
    ],
)
def test_without_a_pattern_it_is_one_that_can_meet_the_target(asked: dict[str, Any], runtime: str, expected: str):
    assert pattern_for(None, asked, runtime) == expected
    assert pattern_for("2:4", asked, runtime) == "2:4"
