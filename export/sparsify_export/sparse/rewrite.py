"""The new graph: each replaced layer's nodes become one, where the last of them stood; what nobody reads is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sparsify_export.pruning.readers import inner_names
from sparsify_export.sparse.attention_choice import Fusion
from sparsify_export.sparse.choice import Blob
from sparsify_export.sparse.graph import GraphView, Names, label
from sparsify_export.sparse.neighbours import Fused
from sparsify_export.sparse.operators import CONV, DOMAIN, LINEAR, VERSION


@dataclass(frozen=True)
class Replacement:
    """One layer with its neighbours, and what stands for them."""

    fused: Fused
    blob: Blob
    kernel: str
    positions: int


def rewrite(view: GraphView, replacements: Sequence[Replacement], fusions: Sequence[Fusion] = ()) -> onnx.ModelProto:
    """A copy of the graph with every layer of `replacements`, and every attention of `fusions`, replaced.

    Equal weights are stored once.
    """
    writer = _Writer(view)
    for replacement in replacements:
        writer.replace(replacement)
    for fusion in fusions:
        writer.fuse(fusion)
    return writer.model()


class _Writer:
    """Collects new nodes and initializers."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._names = Names(view.model)
        self._stored: dict[bytes, str] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._gone: set[int] = set()
        self._new: dict[int, Any] = {}

    def replace(self, replacement: Replacement) -> None:
        fused, layer = replacement.fused, replacement.fused.layer
        name = label(layer.node)
        inputs = [layer.source, self._tensor(replacement.blob, f"{layer.weight}.sparse")]
        bias = None if fused.bias is None else fused.bias.astype(np.float32)
        inputs += ["" if bias is None else self._tensor(bias, f"{name}.bias"), fused.residual]
        given: dict[str, Any] = {
            "rows": layer.rows,
            "columns": layer.columns,
            "activation": fused.activation,
            "kernel": replacement.kernel,
            "expected_n": replacement.positions,
        }
        if fused.norm is not None:
            scale, shift = fused.norm.scale, fused.norm.shift
            inputs += [self._tensor(scale, f"{name}.norm_scale"), self._tensor(shift, f"{name}.norm_shift")]
            given["norm_epsilon"] = fused.norm.epsilon
        if (window := layer.window) is not None:
            for attribute in ("kernel_shape", "strides", "pads", "dilations"):
                given[attribute] = list(getattr(window, attribute))
            given["group"] = window.group
        while not inputs[-1]:
            inputs.pop()
        operator = LINEAR if window is None else CONV
        node = helper.make_node(operator, inputs, [fused.output], name=name, domain=DOMAIN, **given)
        self._gone.update(fused.nodes)
        self._new[max(fused.nodes)] = node

    def fuse(self, fusion: Fusion) -> None:
        """What only led to the attention is dropped later, for nobody reads it any more."""
        last = self._view.producer(fusion.attention.output)
        assert last is not None  # a product's result, or what was made of it
        self._new[last] = fusion.node

    def model(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._view.model)
        graph = model.graph
        del graph.node[:]
        for index, node in enumerate(self._view.nodes):
            if index in self._new:
                graph.node.append(self._new[index])
            elif index not in self._gone:
                graph.node.append(node)
        if self._new:
            graph.initializer.extend(self._tensors)
            model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        _drop_unread(model)
        return model

    def _tensor(self, array: NDArray[Any], wanted: str) -> str:
        """The name of an initializer that holds the array."""
        key = hashlib.sha256(array.dtype.str.encode() + array.tobytes()).digest()
        if key not in self._stored:
            name = self._names.new(wanted)
            self._stored[key] = name
            self._tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return self._stored[key]


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove nodes, initializers and notes of values that lead to no output."""
    graph = model.graph
    read = {value.name for value in graph.output} | set(inner_names(model))
    kept: list[Any] = []
    for node in reversed(list(graph.node)):
        if not read.isdisjoint(node.output):
            read.update(name for name in node.input if name)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    del graph.node[:]
    graph.node.extend(reversed(kept))
    dropped = {tensor.name for tensor in graph.initializer if tensor.name not in read}
    _keep(graph.initializer, lambda tensor: tensor.name not in dropped)
    _keep(graph.sparse_initializer, lambda tensor: tensor.values.name in read)
    # Old files list initializers among the inputs too.
    _keep(graph.input, lambda value: value.name not in dropped)
    _keep(graph.value_info, lambda value: value.name in made)


def _keep(repeated: Any, wanted: Any) -> None:
    kept = [item for item in repeated if wanted(item)]
    if len(kept) < len(repeated):
        del repeated[:]
        repeated.extend(kept)
