"""Graphs as text for the pass, and sparse operators computed in float64: an oracle for what the pass writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sparse_graphs import activated
from sparsify.recipe.spec import SparseSpec
from sparsify_export.onnx_check import inputs_of
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse.observed import made_up_feeds
from sparsify_export.sparse.passes import read_model, rewritten_graph
from sparsify_export.sparse.plan import Plan
from sparsify_kernels.packing import pack, unpack

Array = NDArray[Any]


def sparse(*shape: int, sparsity: float = 0.9, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(shape).astype(np.float32)
    weights[rng.random(shape) < sparsity] = 0
    return weights


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def number(value: float) -> Array:
    return np.array(value, np.float32)


def graph(path: Path, text: str, stored: Mapping[str, Array], *, opset: int = 20) -> Path:
    """Write `(inputs) => (outputs) { nodes }`, in onnx's own notation, with its initializers."""
    head = f'<ir_version: 9, opset_import: ["" : {opset}, "com.microsoft" : 1]> g '
    model = onnx.parser.parse_model(head + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    path.write_bytes(model.SerializeToString())
    return path


def rewritten(
    path: Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None, **options: Any
) -> tuple[onnx.ModelProto, Plan]:
    """What the pass makes of a file, checked by onnx and held against ONNX Runtime's outputs of the original."""
    feeds = made_up_feeds(path, inputs_of(path), shapes or {}, seed=0)
    model = read_model(path)
    before = model.SerializeToString()
    new, plan = rewritten_graph(model, path, SparseSpec(**options), feeds, pack, None)
    assert model.SerializeToString() == before, "the graph that was given has changed"
    onnx.checker.check_model(new)
    evaluator = ReferenceEvaluator(new, new_ops=[SparseLinear, SparseConv, Attention])
    names = [value.name for value in new.graph.output]
    with OnnxRuntime(path) as runtime:
        for feed in feeds:
            expected = runtime.infer(feed)
            got = dict(zip(names, evaluator.run(None, dict(feed)), strict=True))
            for name, output in expected.items():
                tolerance = (1e-5 if plan.precision == "f32" else 0.1) * (np.abs(output).max() + 1e-6)
                np.testing.assert_allclose(got[name], output, rtol=0, atol=tolerance, err_msg=name)
    return new, plan


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def finish(y: Array, node: OpRun, bias: Array | None, residual: Array | None, axis: int) -> Array:
    if bias is not None:
        y = y + bias.astype(np.float64).reshape([-1 if i == axis % y.ndim else 1 for i in range(y.ndim)])
    if residual is not None:
        assert residual.shape == y.shape
        y = y + residual
    return activated(getattr(node, "activation", "none"), y)


class SparseLinear(OpRun):
    op_domain = "sparsify"

    def _run(self, x, w, bias=None, residual=None, norm_scale=None, norm_shift=None, **_: Any):
        matrix = unpack(w).astype(np.float64)
        assert matrix.shape == (self.rows, self.columns)
        y = finish(x.astype(np.float64) @ matrix.T, self, bias, residual, -1)
        if norm_scale is not None:
            centred = y - y.mean(-1, keepdims=True)
            deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + self.norm_epsilon)
            y = centred / deviation * norm_scale + (0 if norm_shift is None else norm_shift)
        return (y.astype(np.float32),)


class SparseConv(OpRun):
    op_domain = "sparsify"

    def _run(self, x, w, bias=None, residual=None, **_: Any):
        matrix = unpack(w).astype(np.float64)
        assert matrix.shape == (self.rows, self.columns)
        kernel, axes = tuple(self.kernel_shape), len(self.kernel_shape)
        pads = list(zip(self.pads[:axes], self.pads[axes:], strict=True))
        padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads])
        spans = [(size - 1) * step + 1 for size, step in zip(kernel, self.dilations, strict=True)]
        windows = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
        strided = [slice(None, None, stride) for stride in self.strides]
        dilated = [slice(None, None, step) for step in self.dilations]
        windows = windows[(slice(None), slice(None), *strided, *dilated)]
        groups = self.group
        parts = []
        for rows, channels in zip(np.split(matrix, groups), np.split(windows, groups, axis=1), strict=True):
            shaped = rows.reshape(rows.shape[0], channels.shape[1], *kernel)
            contracted = [1, *range(2 + axes, 2 + 2 * axes)]
            parts.append(np.moveaxis(np.tensordot(channels, shaped, (contracted, [1, *range(2, 2 + axes)])), -1, 1))
        return (finish(np.concatenate(parts, axis=1), self, bias, residual, 1).astype(np.float32),)


class Attention(OpRun):
    op_domain = "sparsify"

    def _run(self, q, k, v, mask=None, **_: Any):
        q, k, v = (self._apart(array.astype(np.float64)) for array in (q, k, v))
        scores = self.scale * (q @ k.transpose(0, 1, 3, 2)) + (0 if mask is None else mask)
        with np.errstate(invalid="ignore"):
            weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = (np.where(np.isnan(weights), 0, weights) if self.nan_is_zero else weights) @ v
        if not self.heads_first:
            y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
        return (y.astype(np.float32),)

    def _apart(self, array: Array) -> Array:
        if array.ndim == 4:
            return array
        return array.reshape(*array.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)
