"""Which layers of an ONNX graph follow the 2:4 pattern that sparse tensor cores multiply twice as fast.

Of every 4 consecutive weights along the axis that is summed over, at least two are zero, and that axis is a multiple of
4 long (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, arXiv:2104.08378). The axis is the input
channels: axis 1 of a Conv's weight, axis 0 of a MatMul's right-hand side, and of a Gemm's B axis 1 if transB else 0.
The check is made on the graph and not on the module, since exporting transposes and renames weights. Following the
pattern is a condition, not a promise: whether TensorRT then chooses a sparse kernel is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify_export.runtimes.onnx_file import attribute, constants, read_onnx


@dataclass(frozen=True)
class LayerSparsity:
    """One layer that multiplies by a weight. `sparsity` is the fraction of its weights that are zero.

    `reason` is empty exactly when the layer follows 2:4; `violations` counts groups of 4 with more than two nonzero.
    """

    node: str
    op: str
    weight: str
    shape: tuple[int, ...]
    axis: int
    sparsity: float
    violations: int
    reason: str

    @property
    def two_of_four(self) -> bool:
        """Whether the layer may run on sparse tensor cores, as far as its weights decide."""
        return not self.reason


def two_of_four_report(onnx_path: Path) -> tuple[LayerSparsity, ...]:
    """Every Conv, Gemm and MatMul of the graph in order, with whether its weight follows 2:4 and, if not, why.

    A layer whose weight is not a constant (attention's MatMul of two activations) is listed with an empty shape.

    Raises:
        InputOutputError: If there is no such file.
        CorruptError: If it is no ONNX file.
    """
    model = read_onnx(onnx_path, weights=True)
    known = constants(model, onnx_path)
    return tuple(_layer(node, known) for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul"))


def violations(weight: NDArray[Any], axis: int) -> int:
    """Groups of 4 consecutive weights along `axis`, a multiple of 4 long, in which more than two are not zero."""
    nonzero = np.moveaxis(weight != 0, axis, -1)
    return int(np.count_nonzero(nonzero.reshape(-1, 4).sum(axis=1) > 2))


def _layer(node: Any, known: dict[str, NDArray[Any]]) -> LayerSparsity:
    name = node.name or f"(output {node.output[0]})"
    operand, axis = _operand(node, known)
    weight = known.get(node.input[operand])
    if weight is None or weight.ndim < 2:
        reason = "its weight is no constant of two or more dimensions"
        return LayerSparsity(name, node.op_type, node.input[operand], (), axis, 0.0, 0, reason)
    axis %= weight.ndim
    channels = weight.shape[axis]
    whole = channels % 4 == 0
    broken = violations(weight, axis) if whole else 0
    reason = "" if whole else f"{channels} input channels are no multiple of 4"
    if broken:
        reason = f"{broken} of {weight.size // 4} groups of 4 have more than two nonzero weights"
    return LayerSparsity(
        node=name,
        op=node.op_type,
        weight=node.input[operand],
        shape=tuple(weight.shape),
        axis=axis,
        sparsity=float(np.count_nonzero(weight == 0) / weight.size),
        violations=broken,
        reason=reason,
    )


def _operand(node: Any, known: dict[str, NDArray[Any]]) -> tuple[int, int]:
    """Which input is the weight, and the axis of it that is summed over."""
    if node.op_type == "Conv":
        return 1, 1
    if node.op_type == "Gemm":
        return 1, 1 if attribute(node, "transB", 0) else 0
    left_is_weight = node.input[0] in known and node.input[1] not in known
    return (0, -1) if left_is_weight else (1, -2)
