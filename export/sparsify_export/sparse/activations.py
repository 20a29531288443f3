"""The activations after a layer, known by what they compute and not by how an exporter wrote them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sparsify_export.sparse.expressions import Expression, Function
from sparsify_export.sparse.graph import GraphView, attributes

_MOST_NODES = 12
_FUNCTIONS = {"Erf": "erf", "Tanh": "tanh", "Sigmoid": "sigmoid"}
_RELU6 = "relu6"
_ROOT = math.sqrt(2 / math.pi)
_HALF = {(1, 0): 0.5, (1, 1): 0.5}
ACTIVATIONS: dict[str, Expression] = {
    # v/2 (1 + erf(v / sqrt 2)); v/2 (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3))): Hendrycks & Gimpel, arXiv:1606.08415
    "gelu": Expression(_HALF, Function("erf", {1: math.sqrt(0.5)})),
    "gelu_tanh": Expression(_HALF, Function("tanh", {1: _ROOT, 3: _ROOT * 0.044715})),
    # v sigmoid(v)
    "silu": Expression({(1, 1): 1.0}, Function("sigmoid", {1: 1.0})),
    # min(max(v, 0), 6); v relu6(v + 3) / 6: Howard et al., arXiv:1905.02244
    "relu6": Expression({(0, 1): 1.0}, Function(_RELU6, {1: 1.0})),
    "hardswish": Expression({(1, 1): 1 / 6}, Function(_RELU6, {0: 3.0, 1: 1.0})),
}


@dataclass(frozen=True)
class Activation:
    """An activation that was found."""

    name: str
    nodes: tuple[int, ...]
    output: str


def find_activation(view: GraphView, value: str) -> Activation | None:
    """The activation of `value`, where nothing else sees the value or what lies in between."""
    index = view.sole_consumer(value)
    if index is not None and (name := _operator(view, index)):
        return Activation(name, (index,), str(view.nodes[index].output[0]))
    return _composed(view, value)


def _operator(view: GraphView, index: int) -> str:
    """The activation that one node is; empty where it is none."""
    node = view.nodes[index]
    if len(node.input) != 1:
        return ""  # FastGelu with a bias, say
    if view.is_standard(index, "Relu", "HardSwish"):
        return str(node.op_type).lower()
    if view.is_standard(index, "Gelu"):
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(attributes(node).get("approximate", "none"), "")
    if node.domain == "com.microsoft":
        return {"Gelu": "gelu", "FastGelu": "gelu_tanh"}.get(node.op_type, "")
    if view.is_standard(index, "Swish"):
        return "silu" if attributes(node).get("alpha", 1.0) == 1.0 else ""
    return ""


def _composed(view: GraphView, value: str) -> Activation | None:
    """Several nodes after `value`: each gets its expression, until one is an activation."""
    known = {value: Expression.variable()}
    made_by: dict[str, int] = {}
    waiting = list(view.consumers(value))
    while waiting and len(made_by) < _MOST_NODES:
        index = min(waiting)  # in the graph's order, so that a node comes after all it reads
        waiting.remove(index)
        node = view.nodes[index]
        expression = _expression(view, index, known)
        if expression is None or node.output[0] in known:
            continue
        output = str(node.output[0])
        known[output] = expression
        made_by[output] = index
        name = next((name for name, wanted in ACTIVATIONS.items() if expression.is_close(wanted)), None)
        if name is not None:
            nodes = _slice(view, made_by, output)
            between = [value, *(one for one, maker in made_by.items() if maker in nodes and one != output)]
            if all(view.is_enclosed(one, nodes) for one in between):
                return Activation(name, tuple(sorted(nodes)), output)
        waiting += [one for one in view.consumers(output) if one not in waiting]
    return None


def _slice(view: GraphView, made_by: dict[str, int], output: str) -> set[int]:
    """The nodes that `output` is computed by."""
    found: set[int] = set()
    open_ends = [output]
    while open_ends:
        index = made_by.get(open_ends.pop())
        if index is not None and index not in found:
            found.add(index)
            open_ends += view.nodes[index].input
    return found


def _expression(view: GraphView, index: int, known: dict[str, Expression]) -> Expression | None:
    """What a node computes from what is known; None where it is no such node or reads anything else."""
    node = view.nodes[index]
    if view.is_standard(index, "Clip", "HardSigmoid"):
        return _clipped(view, index, _operand(view, node.input[0], known))
    operands = [_operand(view, name, known) for name in node.input]
    given = [operand for operand in operands if operand is not None]
    if len(given) < len(operands) or len(node.output) != 1:
        return None
    if len(given) == 1:
        return given[0].applied(_FUNCTIONS[node.op_type]) if view.is_standard(index, *_FUNCTIONS) else None
    if len(given) != 2 or not view.is_standard(index, "Add", "Sub", "Mul", "Div", "Pow"):
        return None
    return _combined(node, given[0], given[1])


def _clipped(view: GraphView, index: int, value: Expression | None) -> Expression | None:
    """A value cut off at 0 and 6; or scaled, shifted and cut off at 0 and 1, which is a sixth of that."""
    node = view.nodes[index]
    given = attributes(node)
    if node.op_type == "HardSigmoid":
        scale, shift = given.get("alpha", 0.2), given.get("beta", 0.5)
        value = value and value.times(Expression.number(6 * scale))
        value = value and value.plus(Expression.number(6 * shift))
        value = value and value.applied(_RELU6)
        return value and value.over(Expression.number(6))
    # Bounds are inputs from opset 11 on.
    bounds = [view.scalar(name) for name in node.input[1:]] or [given.get("min"), given.get("max")]
    return value.applied(_RELU6) if value is not None and bounds == [0, 6] else None


def _combined(node: Any, a: Expression, b: Expression) -> Expression | None:
    match node.op_type:
        case "Add":
            return a.plus(b)
        case "Sub":
            return a.plus(b, -1.0)
        case "Mul":
            return a.times(b)
        case "Div":
            return a.over(b)
        case _:
            exponent = b.constant
            return None if exponent is None else a.power(exponent)


def _operand(view: GraphView, name: str, known: dict[str, Expression]) -> Expression | None:
    if name in known:
        return known[name]
    number = view.scalar(name)
    return None if number is None else Expression.number(number)
