"""How long one layer takes as it is, timed in ONNX Runtime: what a sparse kernel must beat.

Layers of equal shape are timed once, each for a few hundredths of a second; the shortest of its runs counts, since
whatever disturbs a run makes it longer.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse.graph import GraphView
from sparsify_export.sparse.layers import Layer
from sparsify_export.sparse.observed import Shapes

_BUDGET_NS = 20_000_000
_FEWEST_RUNS = 3


class DenseTimes:
    """Call it with a layer for the nanoseconds of one inference on one thread."""

    def __init__(self, view: GraphView, shapes: Shapes) -> None:
        self._view = view
        self._shapes = shapes
        self._known: dict[Any, float] = {}

    def __call__(self, layer: Layer) -> float:
        """Nanoseconds of the layer's own node; what would be fused is not counted."""
        key = (layer.node.op_type, layer.matrix.shape, layer.window, self._shapes.first(layer.source))
        if key not in self._known:
            self._known[key] = self._timed(layer.node)
        return self._known[key]

    def _timed(self, node: Any) -> float:
        stored = {name: array for name in node.input if (array := self._view.constant(name)) is not None}
        rng = np.random.default_rng(0)
        feed = {
            name: rng.standard_normal(self._shapes.first(name) or ()).astype(np.float32)
            for name in node.input
            if name and name not in stored
        }
        # The same session without the layer: what calling ONNX Runtime costs, whatever it computes.
        nothing = helper.make_node("Identity", [next(iter(feed))], [node.output[0]])
        return max(0.0, self._shortest(node, feed, stored) - self._shortest(nothing, feed, {}))

    def _shortest(self, node: Any, feed: dict[str, NDArray[Any]], stored: dict[str, NDArray[Any]]) -> float:
        graph = helper.make_graph(
            [node],
            "layer",
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in feed.items()],
            [helper.make_empty_tensor_value_info(node.output[0])],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )
        model = self._view.model
        alone = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
        times: list[int] = []
        with OnnxRuntime(alone.SerializeToString()) as runtime:
            runtime.infer(feed)
            while len(times) < _FEWEST_RUNS or sum(times) < _BUDGET_NS:
                start = time.perf_counter_ns()
                runtime.infer(feed)
                times.append(time.perf_counter_ns() - start)
        return float(min(times))
