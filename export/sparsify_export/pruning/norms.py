"""Sums of squares of what each weight is multiplied with, over the calibration examples, feature by feature.

The graph is run with more nodes at its end, which reduce each layer's input where it arises: what comes out is a number
a feature (a pixel, for a Conv), however long the examples are. The nodes are appended to the file's bytes: two protobuf
messages one after the other are one message, whose lists are joined.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from sparsify.errors import CorruptError
from sparsify.store.layout import TEMPORARY
from sparsify_export.pruning.examples import Examples
from sparsify_export.pruning.readers import integer, integers, label
from sparsify_export.pruning.running import run
from sparsify_export.pruning.weights import Features, Use, Weight
from sparsify_export.pruning.wire import Skeleton
from sparsify_export.runtimes.onnxrt import OnnxRuntime

Floats = NDArray[np.float64]
_CHUNK = 1 << 24


@dataclass(frozen=True)
class _Probe:
    """One value of the graph and how it is reduced; several weights may share it."""

    activation: str
    features: Features
    size: int
    """Number of features, where they are an axis; 0 for images, whose pixels are kept apart."""


def input_norms(skeleton: Skeleton, weights: Sequence[Weight], examples: Examples, scratch: Path) -> dict[str, Tensor]:
    """For each weight the sum of x^2 over examples and positions, in float64.

    The shape is (1, in) for Gemm and MatMul, (groups, in, ...) for Conv and ConvTranspose, with `in` the inputs of one
    group; a Conv's are summed over the windows that each weight of its kernel meets, padding as zeros. A weight that
    several nodes use has the sum over all of them.

    Args:
        skeleton: The graph.
        weights: Of it.
        examples: Fed in turn.
        scratch: A folder for a copy of the graph with the added nodes, removed at the end.

    Raises:
        UsageError: ONNX Runtime refuses the examples, or a layer whose inputs it is not known how to sum; names it.
        UnavailableError: ONNX Runtime is not installed.
        CorruptError: ONNX Runtime cannot load the graph, or a layer's inputs are not finite; names it.
    """
    probes = {(weight.name, index): _probe(use) for weight in weights for index, use in enumerate(weight.uses)}
    order = list(dict.fromkeys(probes.values()))
    names, extra = _appended(skeleton.model, order)
    sums: dict[str, Tensor] = {}
    with _opened(skeleton, extra, scratch) as runtime:
        for _, feed in examples.feeds():
            outputs = run(runtime, feed, skeleton.path)
            for weight in weights:
                for index, use in enumerate(weight.uses):
                    reduced = outputs[names[order.index(probes[weight.name, index])]]
                    found = torch.from_numpy(_per_weight(use, weight.shape, reduced))
                    sums[weight.name] = sums[weight.name] + found if weight.name in sums else found
    for weight in weights:
        if not bool(torch.isfinite(sums[weight.name]).all()):
            raise CorruptError(
                f"{skeleton.path}: {label(weight.uses[0].node)}: expected finite inputs, got some that are not; "
                "check the calibration data"
            )
    return sums


def _probe(use: Use) -> _Probe:
    if use.features in ("window", "channels"):
        return _Probe(use.activation, "window", 0)
    return _Probe(use.activation, use.features, use.inputs)


def _appended(model: Any, probes: Sequence[_Probe]) -> tuple[list[str], bytes]:
    """Names of the added outputs, and the bytes that add them."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    prefix = "norm"
    while any(name.startswith(prefix) for node in model.graph.node for name in node.output):
        prefix += "_"
    added = onnx.ModelProto()
    names = [f"{prefix}{index}" for index in range(len(probes))]
    for name, probe in zip(names, probes, strict=True):
        builder = _Builder(added.graph, name, opset)
        builder.reduce(probe)
        added.graph.output.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None))
    return names, added.SerializePartialToString()


class _Builder:
    """Nodes that reduce one value to `name`, in the opset's way of giving axes."""

    def __init__(self, graph: Any, name: str, opset: int) -> None:
        self._graph, self._name, self._opset = graph, name, opset
        self._counter = itertools.count()

    def reduce(self, probe: _Probe) -> None:
        value = self._node("Cast", [probe.activation], to=TensorProto.DOUBLE)
        match probe.features:
            case "last":
                value = self._reduced("ReduceSumSquare", self._flat(value, probe.size), 0)
            case "first":
                value = self._reduced("ReduceSumSquare", value, 1)
            case "second to last":
                value = self._flat(self._reduced("ReduceSumSquare", value, -1), probe.size)
                value = self._reduced("ReduceSum", value, 0)
            case _:
                value = self._reduced("ReduceSumSquare", value, 0)
        self._graph.node.append(helper.make_node("Identity", [value], [self._name]))

    def _flat(self, value: str, size: int) -> str:
        return self._node("Reshape", [value, self._constant([-1, size])])

    def _reduced(self, operator: str, value: str, axis: int) -> str:
        since = 13 if operator == "ReduceSum" else 18
        if self._opset < since:
            return self._node(operator, [value], axes=[axis], keepdims=0)
        return self._node(operator, [value, self._constant([axis])], keepdims=0)

    def _constant(self, values: list[int]) -> str:
        name = self._fresh()
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = self._fresh()
        self._graph.node.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _fresh(self) -> str:
        return f"{self._name}.{next(self._counter)}"


@contextmanager
def _opened(skeleton: Skeleton, extra: bytes, scratch: Path) -> Generator[OnnxRuntime]:
    """The graph with the bytes `extra` at its end. A graph whose weights are beside it is small, and given as bytes."""
    external = any(tensor.data_location == TensorProto.EXTERNAL for tensor in skeleton.model.graph.initializer)
    if external:
        data = skeleton.path.read_bytes() + extra
        with OnnxRuntime(data, source=skeleton.path) as runtime:
            yield runtime
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=scratch) as folder:
        copy = Path(folder) / skeleton.path.name
        with copy.open("wb") as file:
            for chunk in (*_chunks(skeleton.path), extra):
                file.write(chunk)
        with OnnxRuntime(copy) as runtime:
            yield runtime


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _per_weight(use: Use, shape: tuple[int, ...], reduced: Floats) -> Floats:
    """What was summed for one batch, arranged as `input_norms` says; `shape` is the weight's (out, in, ...)."""
    if use.features not in ("window", "channels"):
        return reduced.reshape(1, -1)
    groups, kernel = integer(use.node, "group", 1), shape[2:]
    channels = reduced.shape[0]
    if groups * shape[1] != channels or reduced.ndim - 1 != len(kernel):
        raise CorruptError(
            f"{label(use.node)}: expected {groups * shape[1]} input channels and {len(kernel)} axes, got an input of "
            f"{channels} and {reduced.ndim - 1}"
        )
    if use.features == "channels":
        summed = reduced.reshape(channels, -1).sum(1)
        return summed.reshape(groups, shape[1], *(1 for _ in kernel))
    return _windows(use.node, reduced, kernel).reshape(groups, shape[1], *kernel)


def _windows(node: Any, squares: Floats, kernel: tuple[int, ...]) -> Floats:
    """(channels, *kernel): for each place of the kernel, the sum over the places of the input that it meets."""
    axes = len(kernel)
    strides, dilations = integers(node, "strides") or (1,) * axes, integers(node, "dilations") or (1,) * axes
    sizes = squares.shape[1:]
    pads = _pads(node, sizes, kernel, strides, dilations)
    padded = np.pad(squares, [(0, 0), *pads])
    outputs = [
        (size + before + after - dilation * (width - 1) - 1) // stride + 1
        for size, (before, after), width, stride, dilation in zip(sizes, pads, kernel, strides, dilations, strict=True)
    ]
    sums = np.empty((len(squares), *kernel))
    for place in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
            for at, dilation, stride, count in zip(place, dilations, strides, outputs, strict=True)
        )
        sums[(slice(None), *place)] = padded[(slice(None), *window)].reshape(len(squares), -1).sum(1)
    return sums


def _pads(
    node: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and after each axis, as ONNX defines `pads` and `auto_pad`."""
    auto = next((item.s.decode() for item in node.attribute if item.name == "auto_pad"), "NOTSET")
    if auto == "VALID":
        return [(0, 0)] * len(kernel)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads: list[tuple[int, int]] = []
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
        return pads
    given = integers(node, "pads") or (0,) * (2 * len(kernel))
    return list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
