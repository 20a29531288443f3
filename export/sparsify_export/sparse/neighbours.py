"""What follows a layer and can be done by its operator: scale and bias, residual, activation, LayerNorm.

The operators do them in this order, so that is the order in which they are taken; each only where nothing else sees the
value in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sparsify_export.sparse.activations import find_activation
from sparsify_export.sparse.graph import GraphView, attributes
from sparsify_export.sparse.layers import Floats, Layer, row_vector
from sparsify_export.sparse.norms import Norm, find_norm
from sparsify_export.sparse.observed import Shapes


@dataclass(frozen=True)
class Fused:
    """A layer with all that its operator does beside it."""

    layer: Layer
    output: str
    """The last value computed."""
    nodes: tuple[int, ...]
    """All nodes that go, the layer's own among them."""
    factor: NDArray[np.float64] | None = None
    """What BatchNormalization, or a constant, multiplies each row by."""
    bias: NDArray[np.float64] | None = None
    residual: str = ""
    activation: str = "none"
    norm: Norm | None = None
    words: tuple[str, ...] = field(default=())
    """What was fused, for people."""

    @property
    def matrix(self) -> Floats:
        """The layer's, with the factor in it."""
        if self.factor is None:
            return self.layer.matrix
        return (self.layer.matrix * self.factor[:, None]).astype(np.float32)


def fuse(view: GraphView, shapes: Shapes, layer: Layer, claimed: AbstractSet[int]) -> Fused:
    """Take as many neighbours as the operator can do; nodes that are `claimed` belong to another layer."""
    fused = Fused(layer, layer.output, (layer.index,), residual=layer.residual)
    if layer.residual:
        fused = replace(fused, words=("residual",))
    if layer.bias is not None:
        fused = replace(fused, bias=layer.bias.astype(np.float64), words=("bias", *fused.words))
    while (longer := _added(view, shapes, fused, claimed)) is not None:
        fused = longer
    activation = find_activation(view, fused.output)
    if activation is not None and claimed.isdisjoint(activation.nodes):
        fused = _with(fused, activation.nodes, activation.output, activation.name)
        fused = replace(fused, activation=activation.name)
    norm = find_norm(view, shapes, fused.output, layer.rows) if layer.window is None else None
    if norm is not None and claimed.isdisjoint(norm.nodes):
        fused = replace(_with(fused, norm.nodes, norm.output, "LayerNorm"), norm=norm)
    return fused


def _added(view: GraphView, shapes: Shapes, fused: Fused, claimed: AbstractSet[int]) -> Fused | None:
    """With the sum, the BatchNormalization, the scale or what does nothing, whichever follows; None where none does."""
    index = view.sole_consumer(fused.output)
    if index is None or index in claimed:
        return None
    if view.is_standard(index, "BatchNormalization"):
        return _with_batch_norm(view, shapes, fused, index)
    node = view.nodes[index]
    if _passes_on(view, index):
        return replace(fused, nodes=(*fused.nodes, index), output=str(node.output[0]))
    if not view.is_standard(index, "Add", "Sum", "Mul") or len(node.input) != 2:
        return None
    (other,) = [str(name) for name in node.input if name != fused.output]
    output = str(node.output[0])
    constant = view.constant(other)
    vector = None if constant is None else _by_row(shapes, fused, constant)
    if view.is_standard(index, "Mul"):
        return None if vector is None or fused.residual else _scaled(_with(fused, (index,), output, "scale"), vector)
    if vector is not None:
        total = vector if fused.bias is None else fused.bias + vector
        return replace(_with(fused, (index,), output, "bias"), bias=total)
    if constant is not None:
        return None
    if fused.residual or not shapes.equal(other, fused.output):
        return None
    return replace(_with(fused, (index,), output, "residual"), residual=other)


def _passes_on(view: GraphView, index: int) -> bool:
    """Whether the node's output is its input: exporters leave Identity, and Dropout that drops only in training."""
    node = view.nodes[index]
    if view.is_standard(index, "Identity"):
        return True
    if not view.is_standard(index, "Dropout") or any(node.output[1:]):
        return False
    training = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.array(False)
    return training is not None and not training.any()


def _by_row(shapes: Shapes, fused: Fused, constant: NDArray[np.generic]) -> NDArray[np.float64] | None:
    """The constant as one number a row, where it is that."""
    rank = shapes.rank(fused.output)
    if rank is None:
        return None
    axis = -1 if fused.layer.window is None else 1
    vector = row_vector(constant, fused.layer.rows, axis=axis, rank=rank)
    return None if vector is None else vector.astype(np.float64)


def _scaled(fused: Fused, factor: NDArray[np.float64]) -> Fused:
    """With each row multiplied: its weights and its bias."""
    bias = None if fused.bias is None else fused.bias * factor
    return replace(fused, factor=factor if fused.factor is None else fused.factor * factor, bias=bias)


def _with_batch_norm(view: GraphView, shapes: Shapes, fused: Fused, index: int) -> Fused | None:
    """(y - mean) * scale / sqrt(variance + epsilon) + shift becomes a factor and a bias of every row."""
    node = view.nodes[index]
    given = attributes(node)
    channels_last = fused.layer.window is None and shapes.rank(fused.output) != 2
    if fused.residual or channels_last or given.get("training_mode", 0) or any(node.output[1:]):
        return None
    constants = [view.constant(name) for name in node.input[1:5]]
    vectors = [one.astype(np.float64) for one in constants if one is not None and one.shape == (fused.layer.rows,)]
    if len(vectors) != 4:
        return None
    scale, shift, mean, variance = vectors
    factor = scale / np.sqrt(variance + float(given.get("epsilon", 1e-5)))
    longer = _scaled(_with(fused, (index,), str(node.output[0]), "BatchNormalization"), factor)
    return replace(longer, bias=shift - mean * factor + (0 if longer.bias is None else longer.bias))


def _with(fused: Fused, nodes: Sequence[int], output: str, word: str) -> Fused:
    words = fused.words if word in fused.words else (*fused.words, word)
    return replace(fused, nodes=(*fused.nodes, *nodes), output=output, words=words)
