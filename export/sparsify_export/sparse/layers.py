"""Which nodes multiply by a constant matrix, and why each of the others is not replaced.

A layer's matrix is (rows, columns): outputs by inputs, a convolution's columns being channel of the group, then kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify_export.pruning.wire import subgraphs
from sparsify_export.sparse.graph import GraphView, attributes, label
from sparsify_export.sparse.observed import Shapes

Floats = NDArray[np.float32]

_REPLACED = ("Conv", "Gemm", "MatMul")
_TOLD = (
    *_REPLACED,
    *("ConvTranspose", "ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "DeformConv", "Einsum"),
    *("LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "MatMulNBits", "FusedMatMul", "FusedConv", "FusedGemm"),
)
"""Operators that multiply by weights: what the report lists."""


@dataclass(frozen=True)
class Window:
    """A convolution's attributes, every one filled in."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    """All beginnings, then all ends."""
    dilations: tuple[int, ...]
    group: int

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a product per position."""
        return math.prod(self.kernel_shape) == 1 and self.group == 1


@dataclass(frozen=True)
class Layer:
    """One node that an operator can replace. Its input 0 may be a stack: (..., columns), or an image with `window`."""

    index: int
    node: Any
    source: str
    """The activation."""
    weight: str
    """Name of the constant."""
    matrix: Floats
    """(rows, columns)"""
    window: Window | None = None
    """Of a convolution; None for a linear layer."""
    bias: Floats | None = None
    """(rows,)"""
    residual: str = ""
    """What a Gemm adds that is no constant."""
    in_integers: bool = False
    """Whether ONNX Runtime multiplies integers here: input and weight are both dequantised."""

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.matrix.shape[0]

    @property
    def columns(self) -> int:
        """Inputs of one output."""
        return self.matrix.shape[1]

    @property
    def output(self) -> str:
        """The product's name."""
        return str(self.node.output[0])

    @cached_property
    def sparsity(self) -> float:
        """Fraction of the weights that are zero."""
        return 1.0 - int(np.count_nonzero(self.matrix)) / self.matrix.size


@dataclass(frozen=True)
class Left:
    """A node that multiplies by weights, or by activations, and stays as it is."""

    index: int
    """Its own, or of the node whose graph it is in."""
    name: str
    operator: str
    reason: str
    weight: str = ""
    shape: tuple[int, ...] = field(default=())
    sparsity: float | None = None


def looked_at(view: GraphView) -> list[str]:
    """The values whose shapes decide what can be replaced."""
    names: list[str] = []
    for index, node in enumerate(view.nodes):
        if view.is_standard(index, *_REPLACED, "Add", "Sum", "BatchNormalization"):
            names += [*node.input[:2], node.output[0], *(node.input[2:3] if node.op_type == "Gemm" else ())]
    return [name for name in names if view.constant(name) is None]


def find_layers(view: GraphView, shapes: Shapes) -> list[Layer | Left]:
    """Every node that multiplies by weights, replaceable or not, in the graph's order."""
    found: list[Layer | Left] = []
    for index, node in enumerate(view.nodes):
        if node.op_type in _TOLD:
            one = _layer(view, shapes, index)
            found.append(_left(view, index, one) if isinstance(one, str) else one)
        for inner in subgraphs(node):
            found += _inside(inner, index, f"it is in the graph inside {label(node)!r}")
    return found


def _layer(view: GraphView, shapes: Shapes, index: int) -> Layer | str:
    """The layer, or why the node is none that can be replaced."""
    node = view.nodes[index]
    if not view.is_standard(index, *_REPLACED):
        return "no sparse operator stands for it"
    if (shape := shapes.first(node.output[0])) is not None and not math.prod(shape):
        return "its output is empty"
    if not shapes.is_float(node.output[0]):
        return f"it computes in {shapes.dtypes.get(node.output[0], 'an unknown type')}, not in float32"
    find = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}[node.op_type]
    layer = find(view, shapes, index)
    if isinstance(layer, str) or not all(_is_dequantised(view, name) for name in node.input[:2]):
        return layer
    return replace(layer, in_integers=True)


def _is_dequantised(view: GraphView, name: str) -> bool:
    index = view.producer(name)
    return index is not None and view.is_standard(index, "DequantizeLinear")


def _matmul(view: GraphView, shapes: Shapes, index: int) -> Layer | str:
    node = view.nodes[index]
    left, right = view.constant(node.input[0]), view.constant(node.input[1])
    if left is not None and right is not None:
        return "both operands are constant"
    if right is not None:
        if right.ndim != 2:
            return f"its weight has {right.ndim} axes, not 2"
        if (shapes.rank(node.input[0]) or 0) < 2:
            return "its input is a vector"
        return Layer(index, node, node.input[0], node.input[1], right.T)
    if left is None:
        return "it multiplies two activations"
    if left.ndim != 2 or shapes.rank(node.input[1]) != 3:
        return "its weight stands on the left, and not before a stack of matrices (batch, columns, positions)"
    # W X for every X (columns, positions) of a batch: a convolution of width 1.
    return Layer(index, node, node.input[1], node.input[0], left, Window((1,), (1,), (0, 0), (1,), 1))


def _gemm(view: GraphView, shapes: Shapes, index: int) -> Layer | str:
    node = view.nodes[index]
    given = attributes(node)
    weight = view.constant(node.input[1])
    if weight is None:
        return "its B is no constant"
    if given.get("transA", 0):
        return "its A is transposed"
    matrix = weight if given.get("transB", 0) else weight.T
    matrix = matrix * np.float32(given.get("alpha", 1.0)) if given.get("alpha", 1.0) != 1.0 else matrix
    addend = node.input[2] if len(node.input) > 2 else ""
    beta = float(given.get("beta", 1.0))
    if not addend or not beta:
        return Layer(index, node, node.input[0], node.input[1], matrix)
    constant = view.constant(addend)
    if constant is None:
        if beta != 1.0 or not shapes.equal(addend, node.output[0]):
            return "its C is an activation that is scaled or broadcast"
        return Layer(index, node, node.input[0], node.input[1], matrix, residual=addend)
    bias = row_vector(constant * np.float32(beta), matrix.shape[0], axis=-1, rank=2)
    if bias is None:
        return f"its C, of shape {list(constant.shape)}, is no bias"
    return Layer(index, node, node.input[0], node.input[1], matrix, bias=bias)


def _conv(view: GraphView, shapes: Shapes, index: int) -> Layer | str:
    node = view.nodes[index]
    weight = view.constant(node.input[1])
    if weight is None:
        return "its weight is no constant"
    if weight.ndim not in (3, 4):
        return f"it has {weight.ndim - 2} spatial axes, not 1 or 2"
    steady = not view.takes_any_size and len({shape[2:] for shape in shapes.seen.get(node.input[0], ())}) == 1
    window = _window(attributes(node), weight.shape[2:], shapes.first(node.input[0]), steady)
    if isinstance(window, str):
        return window
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = view.constant(node.input[2])
        if bias is None:
            return "its bias is no constant"
    matrix = weight.reshape(weight.shape[0], -1)
    return Layer(index, node, node.input[0], node.input[1], matrix, window, bias)


def _window(given: dict[str, Any], kernel: Sequence[int], source: tuple[int, ...] | None, steady: bool) -> Window | str:
    axes = len(kernel)
    strides = tuple(given.get("strides") or (1,) * axes)
    dilations = tuple(given.get("dilations") or (1,) * axes)
    pads = tuple(given.get("pads") or (0,) * 2 * axes)
    match given.get("auto_pad", "NOTSET"):
        case "NOTSET":
            pass
        case "VALID":
            pads = (0,) * 2 * axes
        case side:
            if source is None or not (steady or max(strides) == 1):  # by single steps it is the kernel's alone
                return f"its padding, {side}, depends on the size of its input"
            spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
            totals = [
                max((-(-length // stride) - 1) * stride + span - length, 0)
                for length, stride, span in zip(source[2:], strides, spans, strict=True)
            ]
            halves = [total // 2 if side == "SAME_UPPER" else total - total // 2 for total in totals]
            pads = (*halves, *(total - half for total, half in zip(totals, halves, strict=True)))
    return Window(tuple(kernel), strides, pads, dilations, int(given.get("group", 1)))


def row_vector(array: NDArray[Any], rows: int, *, axis: int, rank: int) -> Floats | None:
    """A constant as one number a row, where it is that when broadcast to `rank` axes with rows along `axis`."""
    if array.dtype != np.float32 or array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(rows, array.reshape(()), np.float32)
    wanted = [1] * rank
    wanted[axis] = rows
    if [1] * (rank - array.ndim) + list(array.shape) != wanted:
        return None
    return array.reshape(rows)


def _left(view: GraphView, index: int, reason: str) -> Left:
    """The node, with what is known of its weight."""
    node = view.nodes[index]
    for name in node.input[:2]:
        weight = view.constant(name)
        if weight is not None and weight.ndim >= 2:
            zeros = 1.0 - int(np.count_nonzero(weight)) / max(1, weight.size)
            return Left(index, label(node), node.op_type, reason, name, tuple(weight.shape), zeros)
    return Left(index, label(node), node.op_type, reason)


def _inside(graph: Any, index: int, reason: str) -> Iterator[Left]:
    for node in graph.node:
        if node.op_type in _TOLD:
            yield Left(index, label(node), node.op_type, reason)
        for inner in subgraphs(node):
            yield from _inside(inner, index, reason)
