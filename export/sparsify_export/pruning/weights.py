"""Which stored tensors of a graph are weights that can be pruned, and why each of the others is not.

A weight is what Conv, ConvTranspose, Gemm or MatMul multiplies its input by. Each is shown as (out, in, ...): the axis
that the runtime multiplies over, which N:M is taken along, is axis 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from onnx import TensorProto

from sparsify_export.pruning.readers import (
    STANDARD,
    Operand,
    Reading,
    inner_names,
    integer,
    label,
    node_name,
    readings,
)
from sparsify_export.pruning.tensors import DTYPES, Stored, stored_tensors
from sparsify_export.pruning.views import Reshaped, Transposed, View, shapes_along, swapped
from sparsify_export.pruning.wire import Skeleton, subgraphs

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Features: TypeAlias = Literal["last", "first", "second to last", "window", "channels"]
"""Where the input features lie in what a weight is multiplied with: on an axis of a matrix (or stack of them), in the
windows of a Conv, or the channels of a ConvTranspose."""

_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING)


@dataclass(frozen=True)
class Use:
    """One node that multiplies by a weight."""

    node: Any
    view: View
    """From the stored tensor to (out, in, ...)."""
    activation: str
    """The value that it is multiplied with; may itself be stored."""
    features: Features
    inputs: int
    """Number of input features, of one group."""
    stacked: bool
    """Whether it is several matrices, each multiplied with a part of the activation."""


@dataclass(frozen=True)
class Weight:
    """A tensor to prune: once, however many nodes read it."""

    stored: Stored
    uses: tuple[Use, ...]
    others: tuple[str, ...]
    """What else reads it, which pruning changes too."""
    scale: Stored | None
    scale_axis: int

    @property
    def name(self) -> str:
        """The initializer's, or the Constant node's output's."""
        return self.stored.name

    @property
    def view(self) -> View:
        """From the stored tensor to (out, in, ...); the same for every use."""
        return self.uses[0].view

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in, ...)."""
        return shapes_along(self.view, self.stored.shape)[-1]

    @property
    def stacked(self) -> bool:
        """Whether a node uses it as several matrices."""
        return any(use.stacked for use in self.uses)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that multiply by it."""
        return tuple(node_name(use.node) for use in self.uses)


@dataclass(frozen=True)
class Skipped:
    """A tensor of two axes or more that is not pruned."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Every tensor of two axes or more, integers apart, in the graph's order."""

    weights: tuple[Weight, ...]
    skipped: tuple[Skipped, ...]


def find_weights(skeleton: Skeleton) -> Found:
    """Sort a graph's stored tensors into weights and the rest.

    Raises:
        CorruptError: A file of weights is named outside the graph's own folder, is missing, or is too short.
    """
    graph = skeleton.model.graph
    stored = stored_tensors(skeleton)
    by_name: dict[str, list[Reading]] = {}
    for reading in readings(graph, stored):
        by_name.setdefault(reading.operand.stored.name, []).append(reading)
    inner, outputs = inner_names(skeleton.model), {value.name for value in graph.output}
    shared = _sharing(stored)
    weights: list[Weight] = []
    skipped: list[Skipped] = []
    for name, (tensor, proto) in stored.items():
        if len(proto.dims) < 2 or proto.data_type in _INTEGERS or not math.prod(proto.dims):
            continue
        others = [inner[name]] if name in inner else []
        why = f"it is an output of the graph, {name!r}" if name in outputs else shared.get(name, "")
        result = why or _weight(tensor, proto, by_name.get(name, []), others)
        if isinstance(result, Weight):
            weights.append(result)
        else:
            skipped.append(Skipped(name, tuple(proto.dims), _type_name(proto), result))
    return Found(tuple(weights), (*skipped, *_out_of_reach(skeleton.model)))


def _weight(tensor: Stored | None, proto: Any, readers: Sequence[Reading], others: Sequence[str]) -> Weight | str:
    """The weight, or why it is none."""
    if tensor is None or not tensor.readable:
        return f"its values, {_type_name(proto)}, are of a type or in a form that is not pruned"
    uses: list[Use] = []
    also = list(others)
    for reading in readers:
        use = _use(reading)
        if use is None:
            also.append(label(reading.node))
        else:
            uses.append(use)
    if not uses:
        listed = ", ".join(also[:3]) + (", ..." if len(also) > 3 else "")
        return f"read by {listed}, not by {', '.join(OPERATORS)}" if also else "no node reads it"
    if different := next((use for use in uses if use.view != uses[0].view), None):
        return f"{label(uses[0].node)} and {label(different.node)} multiply it along different axes"
    operands = [reading.operand for reading in readers if _use(reading) is not None]
    if tensor.data_type == TensorProto.INT8 and any(operand.scale is None for operand in operands):
        return f"{label(uses[0].node)} reads it as int8, not through a symmetric DequantizeLinear"
    return Weight(tensor, tuple(uses), tuple(also), operands[0].scale, operands[0].scale_axis)


def _use(reading: Reading) -> Use | None:
    """How the node multiplies by the operand, or None where it does not."""
    node, operand, position = reading.node, reading.operand, reading.position
    if node.domain not in STANDARD or len(operand.shape) < 2 or position > 1 or len(node.input) < 2:
        return None
    arranged = _ARRANGED.get(node.op_type)
    found = arranged(node, operand, position) if arranged else None
    if found is None:
        return None
    more, features = found
    view = (*operand.view, *more)
    stacked = node.op_type == "MatMul" and math.prod(operand.shape[:-2]) > 1
    inputs = shapes_along(view, operand.stored.shape)[-1][1]
    return Use(node, view, node.input[1 - position], features, inputs, stacked)


def _conv(node: Any, operand: Operand, position: int) -> tuple[View, Features] | None:
    del node, operand
    return ((), "window") if position == 1 else None


def _conv_transpose(node: Any, operand: Operand, position: int) -> tuple[View, Features] | None:
    """(in, out / groups, ...), whose first axis holds each group's inputs in turn."""
    inputs, outputs, *kernel = operand.shape
    groups, rest = integer(node, "group", 1), tuple(range(2, 2 + len(kernel)))
    if position != 1 or groups < 1 or inputs % groups:
        return None
    if groups == 1:
        return (Transposed((1, 0, *rest)),), "channels"
    split = Reshaped((groups, inputs // groups, outputs, *kernel))
    order = Transposed((0, 2, 1, *(axis + 1 for axis in rest)))
    return (split, order, Reshaped((groups * outputs, inputs // groups, *kernel))), "channels"


def _gemm(node: Any, operand: Operand, position: int) -> tuple[View, Features] | None:
    """A' B' of (M, K) and (K, N); the outputs of a weight B are its columns, of a weight A its rows."""
    del operand
    turned = (bool(integer(node, "transA", 0)), bool(integer(node, "transB", 0)))
    if position == 1:
        return () if turned[1] else (Transposed((1, 0)),), "first" if turned[0] else "last"
    return (Transposed((1, 0)),) if turned[0] else (), "last" if turned[1] else "first"


def _matmul(node: Any, operand: Operand, position: int) -> tuple[View, Features] | None:
    """(..., M, K) times (..., K, N)."""
    del node
    axes = len(operand.shape)
    view: View = (swapped(axes),) if position == 1 else ()
    if axes > 2:
        last = operand.shape[-2] if position == 1 else operand.shape[-1]
        view = (*view, Reshaped((math.prod(operand.shape) // last, last)))
    return view, "last" if position == 1 else "second to last"


_ARRANGED = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}


def _sharing(stored: Mapping[str, tuple[Stored | None, Any]]) -> dict[str, str]:
    """Tensors whose bytes in a file overlap another's, which would be changed with them; and whose they are."""
    found: dict[str, str] = {}
    tensors = sorted(
        (tensor for tensor, _ in stored.values() if tensor is not None and tensor.span.length),
        key=lambda tensor: (str(tensor.path), tensor.span.offset),
    )
    furthest: Stored | None = None
    for tensor in tensors:
        if furthest is not None and furthest.path == tensor.path:
            if tensor.span.offset < furthest.span.offset + furthest.span.length:
                found[tensor.name] = f"it shares its bytes with the tensor {furthest.name!r}"
                found[furthest.name] = f"it shares its bytes with the tensor {tensor.name!r}"
            if tensor.span.offset + tensor.span.length <= furthest.span.offset + furthest.span.length:
                continue
        furthest = tensor
    return found


def _out_of_reach(model: Any) -> Iterator[Skipped]:
    """Tensors that are kept where we do not look for weights."""
    for sparse in model.graph.sparse_initializer:
        reason = "it is stored as a sparse tensor, which is left as it is"
        yield Skipped(sparse.values.name, tuple(sparse.dims), _type_name(sparse.values), reason)
    for node in model.graph.node:
        for inner in subgraphs(node):
            yield from _kept_inside(inner, f"it is kept in the graph inside {label(node)}")
    for function in model.functions:
        yield from _kept_inside(function, f"it is kept in the file's own function {function.name!r}")


def _kept_inside(graph: Any, reason: str) -> Iterator[Skipped]:
    for tensor in getattr(graph, "initializer", ()):
        if len(tensor.dims) >= 2 and tensor.data_type not in _INTEGERS:
            yield Skipped(tensor.name, tuple(tensor.dims), _type_name(tensor), reason)
    for node in graph.node:
        for item in node.attribute if node.op_type == "Constant" else ():
            if item.name == "value" and len(item.t.dims) >= 2 and item.t.data_type not in _INTEGERS:
                yield Skipped(node.output[0], tuple(item.t.dims), _type_name(item.t), reason)
        for inner in subgraphs(node):
            yield from _kept_inside(inner, reason)


def _type_name(tensor: Any) -> str:
    if tensor.data_type in DTYPES:
        return {"float": "float32", "double": "float64"}.get(name := _enum(tensor), name)
    return _enum(tensor)


def _enum(tensor: Any) -> str:
    try:
        return TensorProto.DataType.Name(tensor.data_type).lower()
    except ValueError:
        return f"type {tensor.data_type}"
