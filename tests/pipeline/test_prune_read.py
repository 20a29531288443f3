from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparsify.pipeline.prune_read import read_size, what_counts
from sparsify.recipe.prune_recipe import PruneRecipe


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        ("unstructured", "onnxruntime-cpu", "packed"),
        ("2:4", "onnxruntime-cpu", "packed"),
        ("unstructured", "sparse-cpu", "onnx"),
        ("channel", "onnxruntime-cpu", "onnx"),
        ("channel", "tensorrt", "onnx"),
    ],
)
def test_a_size_is_that_of_what_gets_smaller_and_loads(tmp_path: Path, pattern: str, target: str, expected: str):
    tree = {"kind": "prune", "name": "x", "trained": {"model": "mlp:4-2"}, "data": "digits"}
    asked = {} if pattern == "2:4" else {"size": 1000}
    parts = {"removal": {"pattern": pattern}, "target": asked, "export": {"targets": [target, "onnxruntime-cuda"]}}
    recipe = PruneRecipe.model_validate(tree | parts)
    assert what_counts(recipe) == expected
    (tmp_path / "sizes.json").write_text(json.dumps({"packed": 1, "onnx": 2}))
    assert read_size(tmp_path, recipe).estimate == {"packed": 1, "onnx": 2}[expected]
