"""Whether an attention becomes one operator: by how long it takes as it is, and as that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

from sparsify_export.sparse.attention import Attention
from sparsify_export.sparse.available import kernels
from sparsify_export.sparse.graph import GraphView, attributes
from sparsify_export.sparse.lone import graph_of, nanoseconds
from sparsify_export.sparse.observed import Shapes
from sparsify_export.sparse.operators import ATTENTION, DOMAIN
from sparsify_export.sparse.options import Precision

_MARGIN_US = 0.5
"""What it must gain, as layers must."""


@dataclass(frozen=True)
class Fusion:
    """What becomes of one attention."""

    attention: Attention
    node: Any
    """The operator."""
    replaced: bool
    reason: str
    as_it_is_us: float | None = None
    as_one_us: float | None = None

    @property
    def precision(self) -> str:
        """Of the products, where the processor has them."""
        return str(attributes(self.node)["precision"])

    @property
    def kernel(self) -> str:
        """What computes it here."""
        _, native = kernels()
        return native.attention_kernel(self.precision)


def choose_fusions(
    view: GraphView, shapes: Shapes, found: list[Attention], precision: Precision, *, compare: bool
) -> list[Fusion]:
    """Time each, those of equal shape once, or replace all of them where nothing is to be compared.

    Args:
        view: The graph as it is.
        shapes: Seen of every value that `attention.looked_at` names.
        found: The attentions in it.
        precision: What was asked for; `i8` allows products of bfloat16, the fastest there are here.
        compare: Whether to time them.
    """
    times: dict[Any, tuple[float, float]] = {}
    fusions: list[Fusion] = []
    for one in found:
        node = _operator(one, precision)
        if not compare:
            fusions.append(Fusion(one, node, True, "one operator, as asked"))
            continue
        key = (*(shapes.first(name) or () for name in one.inputs), one.heads, one.heads_first, one.nan_is_zero)
        if key not in times:
            others = sum(4 * math.prod(tensor.dims) for tensor in view.model.graph.initializer)
            lone = _lone(view, shapes, one, [node]), _lone(view, shapes, one, _nodes(view, shapes, one))
            times[key] = nanoseconds(lone[0], others) / 1e3, nanoseconds(lone[1], others) / 1e3
        as_one, as_it_is = times[key]
        reason = f"{as_one:.4g} us as one operator, {as_it_is:.4g} us as it is"
        fusions.append(Fusion(one, node, as_one + _MARGIN_US < as_it_is, reason, as_it_is, as_one))
    return fusions


def _operator(attention: Attention, precision: Precision) -> Any:
    return helper.make_node(
        ATTENTION,
        attention.inputs,
        [attention.output],
        name=attention.name,
        domain=DOMAIN,
        heads=attention.heads,
        scale=attention.scale,
        heads_first=int(attention.heads_first),
        nan_is_zero=int(attention.nan_is_zero),
        precision="bf16" if precision == "i8" else "f32",
    )


def _nodes(view: GraphView, shapes: Shapes, attention: Attention) -> list[Any]:
    """The nodes between the operator's inputs and its output, in order; sizes that are computed are written out."""
    wanted, found = [attention.output], dict[int, Any]()
    while wanted:
        index = view.producer(wanted.pop())
        if index is None or index in found:
            continue
        node = view.nodes[index]
        found[index] = node
        moving = view.is_standard(index, "Reshape")
        wanted += [
            name
            for place, name in enumerate(node.input)
            if name not in attention.inputs and not (moving and place == 1) and _stored(view, shapes, name) is None
        ]
    return [found[index] for index in sorted(found)]


def _stored(view: GraphView, shapes: Shapes, name: str) -> Any:
    """A constant, or the number that was seen of a factor that is computed from sizes; None for others."""
    number = shapes.number(name) if view.constant(name) is None else None
    return view.constant(name) if number is None else np.full(shapes.first(name) or (), number, np.float32)


def _lone(view: GraphView, shapes: Shapes, attention: Attention, nodes: list[Any]) -> Any:
    """A graph of these nodes alone."""
    stored: dict[str, Any] = {}
    for node in nodes:
        stored |= {name: array for name in node.input if (array := _stored(view, shapes, name)) is not None}
        if node.op_type == "Reshape" and node.input[1] not in stored:
            stored[node.input[1]] = np.array(shapes.first(node.output[0]), np.int64)
    sizes = {name: shapes.first(name) or () for name in attention.inputs if name not in stored}
    return graph_of(nodes, sizes, stored, view.model)
