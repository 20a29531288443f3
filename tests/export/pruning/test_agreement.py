from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from layer_graphs import normal, save_graph
from sparsify.errors import CorruptError
from sparsify_export.pruning import agreement as module
from sparsify_export.pruning.agreement import agreement, not_measured
from sparsify_export.pruning.examples import Examples


def _graph(path: Path, w: np.ndarray) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("Reshape", ["logits", "shape"], ["flat"]),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1),
    ]
    graph = save_graph(
        path, nodes, {"x": ["n", len(w)]}, {"logits": None, "flat": None}, {"w": w, "shape": np.array([-1])}
    )
    return graph


def _examples(x: np.ndarray) -> Examples:
    return Examples("calibration", len(x), 8, {"x": x}, frozenset())


def test_figures_against_numpy(tmp_path: Path):
    w, x = normal(6, 4), normal(20, 6, seed=1)
    pruned = np.where(np.abs(w) > 0.6, w, 0).astype(np.float32)
    found = agreement(_graph(tmp_path / "d.onnx", w), _graph(tmp_path / "p.onnx", pruned), _examples(x))
    logits, flat = found.outputs
    a, b = x.astype(np.float64) @ w, x.astype(np.float64) @ pruned
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert (found.examples, found.inputs, logits.name) == (20, "calibration", "logits")
    assert logits.cosine == pytest.approx(cosines.mean(), rel=1e-5)
    assert logits.cosine_lowest == pytest.approx(cosines.min(), rel=1e-5)
    assert logits.max_abs_difference == pytest.approx(np.abs(a - b).max(), rel=1e-5)
    assert logits.argmax_agreement == (a.argmax(1) == b.argmax(1)).mean()
    assert flat.argmax_agreement is None
    json.dumps(found.to_json(), allow_nan=False)


def test_the_same_graph_agrees_with_itself(tmp_path: Path):
    path = _graph(tmp_path / "d.onnx", normal(6, 4))
    for one in agreement(path, path, _examples(normal(9, 6, seed=1))).outputs:
        assert one.cosine == pytest.approx(1)
        assert one.max_abs_difference == 0
        assert one.argmax_agreement in (1.0, None)


def test_zero_vectors_agree_with_each_other_alone(tmp_path: Path):
    dense, zero = _graph(tmp_path / "d.onnx", normal(6, 4)), _graph(tmp_path / "z.onnx", np.zeros((6, 4), np.float32))
    x = normal(3, 6, seed=1)
    assert agreement(dense, zero, _examples(x)).outputs[0].cosine == 0
    assert agreement(zero, zero, _examples(x)).outputs[0].cosine == 1


def test_outputs_too_large_to_hold_end_it_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = _graph(tmp_path / "d.onnx", normal(6, 4))
    monkeypatch.setattr(module, "_HELD", 1)
    assert agreement(path, path, _examples(normal(40, 6))).examples == 8


def test_what_cannot_be_run_is_said(tmp_path: Path):
    path = _graph(tmp_path / "d.onnx", normal(6, 4))
    found = agreement(path, path, _examples(normal(4, 7)))
    assert not found.outputs
    assert found.statement.startswith("agreement with the dense graph not measured: ")
    assert "fails on the examples" in found.missing


def test_outputs_that_stop_being_finite_are_corrupt(tmp_path: Path):
    x = np.full((2, 2), 1e20, np.float32)
    small, large = np.full((2, 2), 1, np.float32), np.full((2, 2), 1e30, np.float32)
    dense, pruned = _graph(tmp_path / "d.onnx", small), _graph(tmp_path / "p.onnx", large)
    with pytest.raises(CorruptError, match="output 'logits': expected finite numbers"):
        agreement(dense, pruned, _examples(x))
    found = agreement(pruned, dense, _examples(x)).outputs[0]
    assert (found.cosine, found.max_abs_difference) == (None, 0.0)


def test_made_up_inputs_are_called_so():
    assert "made up" in not_measured("made up", "no size").to_json()["inputs"]
    statement = module.Agreement("made up", 32, ()).statement
    assert "32 made up examples, not accuracy" in statement
    assert "real ones may agree more or less" in statement
    assert "real ones" not in module.Agreement("calibration", 32, ()).statement
