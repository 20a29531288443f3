"""What reads a graph's stored tensors, directly or through nodes that only rearrange or convert them.

Followed are Identity, Transpose, Reshape to a constant shape, Cast between floats, and QuantizeLinear and
DequantizeLinear whose zero point is zero: through each of them a zero stays a zero, and no two values are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from sparsify_export.pruning.tensors import DTYPES, Stored
from sparsify_export.pruning.views import Reshaped, Transposed, View, shapes_along
from sparsify_export.pruning.wire import subgraphs

STANDARD = ("", "ai.onnx")
"""How the operators of ONNX itself name their domain."""


@dataclass(frozen=True)
class Operand:
    """A stored tensor as a node reads it."""

    stored: Stored
    view: View = ()
    scale: Stored | None = None
    """What DequantizeLinear multiplies an int8 tensor by."""
    scale_axis: int = 0
    """The axis that a `scale` of several values lies along."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As the node sees it."""
        return shapes_along(self.view, self.stored.shape)[-1]


@dataclass(frozen=True)
class Reading:
    """One input of one node that is a stored tensor."""

    node: Any
    position: int
    operand: Operand


def readings(graph: Any, stored: Mapping[str, tuple[Stored | None, Any]]) -> Iterator[Reading]:
    """Every reading of a stored tensor by a node of the graph itself that is not followed, in the graph's order."""
    operands = {name: Operand(tensor) for name, (tensor, _) in stored.items() if tensor is not None and tensor.readable}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if not name or name not in operands:  # an input that is left out has no name
                continue
            followed = _followed(node, operands[name], stored) if position == 0 else None
            if followed is not None:
                operands[node.output[0]] = followed
            else:
                yield Reading(node, position, operands[name])


def inner_names(model: Any) -> dict[str, str]:
    """Names that are read inside the graphs within nodes, and which node that is."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        for inner in subgraphs(node):
            for name in _read_in(inner):
                found.setdefault(name, f"the graph inside {label(node)}")
    return found


def label(node: Any) -> str:
    """A node as messages name it: its operator and its name, or its first output where it has none."""
    return f"{node.op_type} {node_name(node)!r}"


def node_name(node: Any) -> str:
    """Its name, or its first output's where it has none."""
    return node.name or (node.output[0] if node.output else "")


def integer(node: Any, name: str, default: int) -> int:
    """An integer attribute."""
    return next((item.i for item in node.attribute if item.name == name), default)


def integers(node: Any, name: str) -> tuple[int, ...]:
    """An attribute of several integers, empty where it is left out."""
    return next((tuple(item.ints) for item in node.attribute if item.name == name), ())


def _read_in(graph: Any) -> Iterator[str]:
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for inner in subgraphs(node):
            yield from _read_in(inner)


def _followed(node: Any, operand: Operand, stored: Mapping[str, tuple[Stored | None, Any]]) -> Operand | None:
    """What the node's output is, where it is the operand rearranged or converted."""
    if node.domain not in STANDARD or not node.output:
        return None
    view: View | None = None
    match node.op_type:
        case "Identity":
            return operand
        case "Cast" if integer(node, "to", 0) in _FLOATS and operand.stored.data_type in _FLOATS:
            return operand
        case "Transpose":
            order = integers(node, "perm") or tuple(reversed(range(len(operand.shape))))
            view = (*operand.view, Transposed(order))
        case "Reshape":
            shape = _constant(node, 1, stored)
            view = None if shape is None else (*operand.view, Reshaped(_filled(shape, operand.shape)))
        case "QuantizeLinear" if operand.stored.data_type in _FLOATS and _symmetric(node, stored):
            return operand
        case "DequantizeLinear" if _symmetric(node, stored) and integer(node, "block_size", 0) == 0:
            return _dequantised(node, operand, stored)
        case _:
            return None
    return replace(operand, view=view) if view is not None and _fits(view, operand.stored.shape) else None


_FLOATS = tuple(kind for kind in DTYPES if kind != TensorProto.INT8)


def _dequantised(node: Any, operand: Operand, stored: Mapping[str, tuple[Stored | None, Any]]) -> Operand | None:
    if operand.stored.data_type in _FLOATS:
        return operand
    scale = stored.get(node.input[1], (None, None))[0]
    axis, axes = integer(node, "axis", 1), len(operand.stored.shape)
    if operand.view or operand.scale is not None or scale is None or not scale.readable:
        return None
    if scale.elements > 1 and not (-axes <= axis < axes and scale.elements == operand.stored.shape[axis]):
        return None
    return replace(operand, scale=scale, scale_axis=axis % axes if axes else 0)


def _symmetric(node: Any, stored: Mapping[str, tuple[Stored | None, Any]]) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear maps zero to zero: its zero point is left out or zero."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    tensor, proto = stored.get(node.input[2], (None, None))
    if tensor is not None and tensor.readable:
        return not bool(tensor.read().any())
    values = _small(proto)
    return values is not None and not values.any()


def _constant(node: Any, position: int, stored: Mapping[str, tuple[Stored | None, Any]]) -> list[int] | None:
    name = node.input[position] if len(node.input) > position else ""
    values = _small(stored.get(name, (None, None))[1])
    return None if values is None else [int(value) for value in values.reshape(-1)]


def _small(proto: Any) -> Any:
    """The array of a small tensor, which the skeleton holds whole; None for others and for none."""
    if proto is None or proto.data_location == TensorProto.EXTERNAL:
        return None
    try:
        return numpy_helper.to_array(proto)
    except (ValueError, TypeError, onnx.checker.ValidationError):
        return None


def _filled(target: list[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """What Reshape makes of `shape`: 0 keeps an axis, -1 takes what is left."""
    sizes = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target)]
    if sizes.count(-1) == 1:
        known = elements = 1
        for size in sizes:
            known *= size if size != -1 else 1
        for size in shape:
            elements *= size
        sizes[sizes.index(-1)] = elements // known if known else 0
    return tuple(sizes)


def _fits(view: View, shape: tuple[int, ...]) -> bool:
    try:
        shapes_along(view, shape)
    except ValueError:
        return False
    return True
