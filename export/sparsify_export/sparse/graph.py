"""A graph with its producers, its consumers and what is constant in it. Nodes are told by their place in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from sparsify_export.onnx_check import values_of
from sparsify_export.pruning.readers import STANDARD, inner_names

_FOLDED = (
    "Add",
    "Cast",
    "DequantizeLinear",
    "Div",
    "Identity",
    "Mul",
    "Reciprocal",
    "Reshape",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
)


class GraphView:
    """Looks, and changes nothing; made anew when the graph has changed."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None = None) -> None:
        self.model = model
        self._folder = folder  # of files that hold weights
        self.nodes: list[Any] = list(model.graph.node)
        self._producer = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self._uses: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self._uses.setdefault(name, []).append(index)
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1)
        """Of ONNX itself."""
        self.outputs = {value.name for value in model.graph.output}
        self.captured = set(inner_names(model))
        """Names that graphs inside nodes read."""
        self.takes_any_size = any(
            not dim.dim_value for value in model.graph.input for dim in value.type.tensor_type.shape.dim[1:]
        )
        """Whether an input leaves a size open after its first axis: sizes that were seen are not all there are."""
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._sparse_initializers = {tensor.values.name: tensor for tensor in model.graph.sparse_initializer}
        self._constants: dict[str, NDArray[Any] | None] = {}

    def is_standard(self, index: int, *operators: str) -> bool:
        """Whether the node is one of these operators of ONNX itself."""
        node = self.nodes[index]
        return node.domain in STANDARD and node.op_type in operators

    def consumers(self, name: str) -> tuple[int, ...]:
        """The nodes that read a value, each once."""
        return tuple(dict.fromkeys(self._uses.get(name, ())))

    def sole_consumer(self, name: str) -> int | None:
        """The one node that reads a value, once, where nothing else can see the value."""
        uses = self._uses.get(name, [])
        return uses[0] if len(uses) == 1 and not self.is_seen_outside(name) else None

    def is_seen_outside(self, name: str) -> bool:
        """Whether a value is an output of the graph, or read by a graph inside a node."""
        return name in self.outputs or name in self.captured

    def is_enclosed(self, name: str, nodes: Iterable[int]) -> bool:
        """Whether only these nodes see a value."""
        return not self.is_seen_outside(name) and set(self._uses.get(name, ())) <= set(nodes)

    def producer(self, name: str) -> int | None:
        """The node whose output a value is; None for inputs and initializers."""
        return self._producer.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        """A value that no input can change, computed where simple nodes lie between; None where there is none."""
        if not name:
            return None
        if name not in self._constants:
            self._constants[name] = self._constant(name)
        return self._constants[name]

    def scalar(self, name: str) -> float | None:
        """The number that a constant of one element and at most one axis holds."""
        array = self.constant(name)
        if array is None or array.size != 1 or array.ndim > 1 or array.dtype.kind not in "fiu":
            return None
        return float(array.reshape(()))

    def computed(self, index: int, given: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """What a node makes of these inputs, its others being constant; None where they are not, or it fails."""
        node = self.nodes[index]
        inputs = {name: given.get(name, self.constant(name)) for name in node.input if name}
        known = {name: array for name, array in inputs.items() if array is not None}
        return self._folded(node, known) if len(known) == len(inputs) else None

    def _constant(self, name: str) -> NDArray[Any] | None:
        if name in self._initializers:
            return values_of(self._initializers[name], self._folder)
        if name in self._sparse_initializers:
            return _filled(self._sparse_initializers[name], self._folder)
        index = self.producer(name)
        if index is None:
            return None
        node = self.nodes[index]
        if self.is_standard(index, "Constant"):
            return self._constant_value(node)
        if not self.is_standard(index, *_FOLDED):
            return None
        inputs = {one: self.constant(one) for one in node.input if one}
        known = {one: array for one, array in inputs.items() if array is not None}
        return self._folded(node, known) if len(known) == len(inputs) else None

    def _constant_value(self, node: Any) -> NDArray[Any] | None:
        for name, value in attributes(node).items():
            match name:
                case "value":
                    return values_of(value, self._folder)
                case "sparse_value":
                    return _filled(value, self._folder)
                case "value_float" | "value_floats":
                    return np.asarray(value, np.float32)
                case "value_int" | "value_ints":
                    return np.asarray(value, np.int64)
                case _:
                    return None
        return None

    def _folded(self, node: Any, inputs: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
        """One node computed by onnx's reference; None where that cannot, for reasons that ONNX Runtime tells better."""
        from onnx.reference import ReferenceEvaluator

        empty = onnx.ValueInfoProto
        graph = helper.make_graph([node], "folded", [empty(name=one) for one in inputs], [empty(name=node.output[0])])
        model = helper.make_model(graph, opset_imports=list(self.model.opset_import))
        if node.op_type == "DequantizeLinear":
            # The reference has none before 19, which does what those before did.
            for entry in model.opset_import:
                entry.version = max(19, entry.version) if entry.domain in STANDARD else entry.version
        try:
            (result,) = ReferenceEvaluator(model).run(None, inputs)
        except (ValueError, TypeError, IndexError, RuntimeError):
            return None
        return np.asarray(result)


def _filled(sparse: Any, folder: Path | None) -> NDArray[Any]:
    """A tensor stored as its nonzeros, with its zeros: places are counted along all axes at once, or along each."""
    values, places = values_of(sparse.values, folder), values_of(sparse.indices, folder)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return dense


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values; text is decoded."""
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def label(node: Any) -> str:
    """A node's name, or its first output's where it has none."""
    return str(node.name or node.output[0])


class Names:
    """Names that are not taken yet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._taken = {tensor.name for tensor in graph.initializer}
        self._taken.update(value.name for value in (*graph.input, *graph.output))
        self._taken.update(name for node in graph.node for name in (*node.input, *node.output))
        self._taken.update(inner_names(model))

    def new(self, wanted: str) -> str:
        """The name wanted, with a number after it where it is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
