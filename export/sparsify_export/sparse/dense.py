"""What the graph takes as it is, in ONNX Runtime: its layers, and the changes of layout between them.

Layers of equal shape are timed once, each for a few hundredths of a second.
"""

from __future__ import annotations

import math
from typing import Any

from onnx import helper

from sparsify_export.sparse.graph import GraphView
from sparsify_export.sparse.layers import Layer
from sparsify_export.sparse.lone import BLOCKED, blocked_ends, graph_of, nanoseconds, nanoseconds_in_blocks
from sparsify_export.sparse.observed import Shapes

_BLOCK = 16
"""Channels of the largest blocks: what is laid out in blocks is filled up to them."""


class DenseTimes:
    """Call it with a layer for the nanoseconds of one inference on one thread."""

    def __init__(self, view: GraphView, shapes: Shapes) -> None:
        self._view = view
        self._shapes = shapes
        self._weights = sum(4 * math.prod(tensor.dims) for tensor in view.model.graph.initializer)
        self._known: dict[Any, Any] = {}

    def __call__(self, layer: Layer) -> float:
        """Nanoseconds of the layer's node between plain neighbours; what would be fused is not counted."""
        key = ("layer", layer.node.op_type, layer.matrix.shape, layer.window, self._shapes.first(layer.source))
        if key not in self._known:
            self._known[key] = nanoseconds(self._lone(layer.node), self._weights)
        return self._known[key]

    def blocked_ends(self, node: Any) -> tuple[bool, bool]:
        """Whether the node reads its input, and writes its output, in blocks of channels."""
        key = ("ends", *self._alike(node))
        if key not in self._known:
            self._known[key] = blocked_ends(self._lone(node))
        return self._known[key]

    def in_blocks(self, node: Any) -> float:
        """Nanoseconds of the node between neighbours in blocks of channels."""
        key = ("blocks", *self._alike(node))
        if key not in self._known:
            self._known[key] = nanoseconds_in_blocks(self._lone(node), self._weights)
        return self._known[key]

    def change_of_layout(self, shape: tuple[int, ...]) -> float:
        """Nanoseconds of bringing an image (batch, channels, ...) into blocks of channels, or out of them."""
        key = ("change", shape)
        if key not in self._known:
            channels = -(-shape[1] // _BLOCK) * _BLOCK
            there = helper.make_node("ReorderInput", ["x"], ["blocks"], domain=BLOCKED)
            back = helper.make_node("ReorderOutput", ["blocks"], ["y"], domain=BLOCKED, channels=channels)
            lone = graph_of([there, back], {"x": (shape[0], channels, *shape[2:])}, {}, self._view.model)
            self._known[key] = nanoseconds(lone, self._weights) / 2
        return self._known[key]

    def _lone(self, node: Any) -> Any:
        stored = {name: array for name in node.input if (array := self._view.constant(name)) is not None}
        shapes = {name: self._shapes.first(name) or () for name in node.input if name and name not in stored}
        return graph_of([node], shapes, stored, self._view.model)

    def _alike(self, node: Any) -> tuple[Any, ...]:
        """The same of nodes that ONNX Runtime treats alike."""
        attributes = b"".join(item.SerializeToString(deterministic=True) for item in node.attribute)
        sizes = (self._shapes.first(name) or self._stored_shape(name) for name in node.input)
        return (node.op_type, attributes, *sizes)

    def _stored_shape(self, name: str) -> tuple[int, ...]:
        array = self._view.constant(name)
        return () if array is None else array.shape
