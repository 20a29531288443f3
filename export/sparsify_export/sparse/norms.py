"""LayerNormalization over the last axis after a layer: the operator, and the nodes that older exporters write it as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify_export.sparse.graph import GraphView, attributes
from sparsify_export.sparse.observed import Shapes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """A LayerNormalization that was found; scale and shift have a number a feature."""

    scale: Floats
    shift: Floats
    epsilon: float
    nodes: tuple[int, ...]
    output: str


def find_norm(view: GraphView, shapes: Shapes, value: str, features: int) -> Norm | None:
    """The LayerNormalization of `value` over its last axis, where nothing else sees the value or what lies between."""
    index = view.sole_consumer(value)
    if index is not None and view.is_standard(index, "LayerNormalization"):
        return _operator(view, shapes, value, index, features)
    return _decomposed(view, shapes, value, features)


def _operator(view: GraphView, shapes: Shapes, value: str, index: int, features: int) -> Norm | None:
    node = view.nodes[index]
    given = attributes(node)
    if node.input[0] != value or not _is_last(shapes, value, [given.get("axis", -1)]) or any(node.output[1:]):
        return None
    scale = _vector(view, node.input[1], features)
    shift = _vector(view, node.input[2], features) if len(node.input) > 2 else np.zeros(features, np.float32)
    if scale is None or shift is None:
        return None
    return Norm(scale, shift, float(given.get("epsilon", 1e-5)), (index,), str(node.output[0]))


def _decomposed(view: GraphView, shapes: Shapes, value: str, features: int) -> Norm | None:
    """With d = v - mean(v): d / sqrt(mean(d^2) + epsilon) * scale + shift, the difference taken once or twice."""
    readers = view.consumers(value)
    means = [index for index in readers if _is_mean(view, shapes, index, value)]
    if len(means) != 1:
        return None
    mean = str(view.nodes[means[0]].output[0])
    differences = [index for index in readers if _reads(view, index, "Sub", value, mean)]
    if not differences or len(readers) != 1 + len(differences):
        return None
    nodes = {means[0], *differences}
    centred = {str(view.nodes[index].output[0]) for index in differences}
    root = _root(view, shapes, centred, nodes)
    if root is None:
        return None
    deviation, epsilon = root
    quotient = _quotient(view, centred, deviation, nodes)
    scaled = None if quotient is None else _with_vector(view, quotient, "Mul", features, nodes)
    shifted = None if scaled is None else _with_vector(view, scaled[1], "Add", features, nodes)
    if scaled is None or shifted is None:
        return None
    inner = [value, *(name for index in nodes for name in view.nodes[index].output if name != shifted[1])]
    if not all(view.is_enclosed(name, nodes) for name in inner):
        return None
    return Norm(scaled[0], shifted[0], epsilon, tuple(sorted(nodes)), shifted[1])


def _root(view: GraphView, shapes: Shapes, centred: set[str], nodes: set[int]) -> tuple[str, float] | None:
    """sqrt(mean(d^2) + epsilon), and epsilon."""
    squares = [index for name in centred for index in view.consumers(name) if _is_square(view, index, centred)]
    if len(set(squares)) != 1:
        return None
    square = str(view.nodes[squares[0]].output[0])
    mean = view.sole_consumer(square)
    if mean is None or not _is_mean(view, shapes, mean, square):
        return None
    variance = str(view.nodes[mean].output[0])
    plus = view.sole_consumer(variance)
    if plus is None or not view.is_standard(plus, "Add"):
        return None
    (other,) = _others(view.nodes[plus], variance) or ("",)
    epsilon = view.scalar(other)
    root = view.sole_consumer(str(view.nodes[plus].output[0]))
    if epsilon is None or root is None or not view.is_standard(root, "Sqrt"):
        return None
    nodes |= {squares[0], mean, plus, root}
    return str(view.nodes[root].output[0]), epsilon


def _quotient(view: GraphView, centred: set[str], deviation: str, nodes: set[int]) -> str | None:
    """The difference over the deviation, divided or multiplied by its reciprocal."""
    index = view.sole_consumer(deviation)
    if index is not None and (view.is_standard(index, "Reciprocal") or _is_one_over(view, index, deviation)):
        nodes.add(index)
        inverse = str(view.nodes[index].output[0])
        index = view.sole_consumer(inverse)
        if index is None or not any(_reads(view, index, "Mul", name, inverse, either=True) for name in centred):
            return None
    elif index is None or not any(_reads(view, index, "Div", name, deviation) for name in centred):
        return None
    nodes.add(index)
    return str(view.nodes[index].output[0])


def _with_vector(
    view: GraphView, name: str, operator: str, features: int, nodes: set[int]
) -> tuple[Floats, str] | None:
    """What the one consumer of `name` multiplies by it or adds to it, and its output."""
    index = view.sole_consumer(name)
    if index is None or not view.is_standard(index, operator):
        return None
    (other,) = _others(view.nodes[index], name) or ("",)
    vector = _vector(view, other, features)
    if vector is None:
        return None
    nodes.add(index)
    return vector, str(view.nodes[index].output[0])


def _vector(view: GraphView, name: str, features: int) -> Floats | None:
    array = view.constant(name)
    fits = array is not None and array.dtype == np.float32 and array.shape == (features,)
    return array if fits else None


def _is_mean(view: GraphView, shapes: Shapes, index: int, value: str) -> bool:
    if not view.is_standard(index, "ReduceMean") or view.nodes[index].input[0] != value:
        return False
    node = view.nodes[index]
    given = attributes(node)
    axes: Any = given.get("axes")
    if len(node.input) > 1:
        array = view.constant(node.input[1])
        axes = None if array is None else array.reshape(-1).tolist()
    return axes is not None and _is_last(shapes, value, list(axes)) and given.get("keepdims", 1) == 1


def _is_last(shapes: Shapes, value: str, axes: list[int]) -> bool:
    rank = shapes.rank(value)
    return axes == [-1] or (rank is not None and axes == [rank - 1])


def _is_square(view: GraphView, index: int, centred: set[str]) -> bool:
    node = view.nodes[index]
    if view.is_standard(index, "Pow"):
        return node.input[0] in centred and view.scalar(node.input[1]) == 2.0
    return view.is_standard(index, "Mul") and set(node.input) <= centred


def _is_one_over(view: GraphView, index: int, name: str) -> bool:
    node = view.nodes[index]
    return view.is_standard(index, "Div") and node.input[1] == name and view.scalar(node.input[0]) == 1.0


def _reads(view: GraphView, index: int, operator: str, first: str, second: str, *, either: bool = False) -> bool:
    given = list(view.nodes[index].input)
    return view.is_standard(index, operator) and (given == [first, second] or (either and given == [second, first]))


def _others(node: Any, name: str) -> tuple[str, ...] | None:
    """The other operand of a node of two; None where both are `name`, or neither is."""
    rest = [str(one) for one in node.input if one != name]
    return tuple(rest) if len(rest) == 1 and len(node.input) == 2 else None
