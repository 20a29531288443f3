"""A runtime's outputs against eager PyTorch's, on real inputs, with the tolerance and its reason stated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparsify.errors import CorruptError, UsageError
from sparsify_export.runtimes.protocol import Runtime

FP32_EPS = 2.0**-23


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed error, relative to the largest output of the batch."""

    relative: float
    reason: str


@dataclass(frozen=True)
class BatchParity:
    """One batch size: errors are absolute, and relative to the batch's largest output."""

    batch_size: int
    max_abs_error: float
    max_rel_error: float
    argmax_agreement: float
    """Fraction of inputs whose predicted class is the same."""


@dataclass(frozen=True)
class Parity:
    """Every batch size that was tried, all within `tolerance`."""

    runtime: dict[str, str | int]
    tolerance: Tolerance
    batches: tuple[BatchParity, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def tolerance_of(module: nn.Module, eps: float = FP32_EPS) -> Tolerance:
    """Rounding that summing in another order may cost: eps x depth x sqrt(largest fan-in).

    Each of `depth` weighted layers sums up to `fan_in` terms; the errors of a sum in another order add up like a random
    walk (Higham & Mary 2019, "A new approach to probabilistic rounding error analysis"), hence the square root.
    """
    weights = [p for p in module.parameters() if p.ndim >= 2]
    if not weights:
        raise UsageError("expected a module with weights, got one with none; there is nothing to compare")
    depth, fan_in = len(weights), max(weight[0].numel() for weight in weights)
    relative = eps * depth * math.sqrt(fan_in)
    reason = f"eps {eps:.3g} x {depth} layers x sqrt(fan-in {fan_in}), of the largest output"
    return Tolerance(relative, reason)


def check_parity(
    runtime: Runtime, reference: Runtime, inputs: Mapping[int, NDArray[Any]], tolerance: Tolerance
) -> Parity:
    """Compare the outputs for every batch size; both runtimes are entered, and take `input` and give `logits`.

    Args:
        runtime: What is checked.
        reference: Eager PyTorch over the same weights.
        inputs: By batch size, real inputs (M, C, H, W); fed in batches of that size, a remainder left out.
        tolerance: See `tolerance_of`.

    Raises:
        CorruptError: The runtime is not to be trusted with this graph; the message has the numbers.
        UsageError: Fewer inputs than one batch.
    """
    batches = tuple(_compare(runtime, reference, size, images, tolerance) for size, images in sorted(inputs.items()))
    return Parity(runtime.describe(), tolerance, batches)


def _compare(
    runtime: Runtime, reference: Runtime, size: int, images: NDArray[Any], tolerance: Tolerance
) -> BatchParity:
    if len(images) < size:
        raise UsageError(f"parity: expected at least one batch of {size} inputs, got {len(images)}; give more")
    starts = range(0, len(images) - size + 1, size)
    expected = np.concatenate([_logits(reference, images[i : i + size]) for i in starts])
    got = np.concatenate([_logits(runtime, images[i : i + size]) for i in starts])
    if got.shape != expected.shape:
        raise CorruptError(f"parity at batch {size}: expected outputs of shape {expected.shape}, got {got.shape}")
    largest = float(np.abs(expected).max())
    error = float(np.abs(got.astype(np.float64) - expected).max())
    same = float((got.argmax(-1) == expected.argmax(-1)).mean())
    # `not <=` rather than `>`: an error that is NaN must fail.
    if not error <= tolerance.relative * largest:
        raise CorruptError(
            f"parity at batch {size}: expected errors up to {tolerance.relative * largest:.3g} ({tolerance.reason}), "
            f"got {error:.3g}, same class for {same:.1%}; {runtime.describe()} is not to be trusted with this graph"
        )
    return BatchParity(size, error, error / largest if largest else 0.0, same)


def _logits(runtime: Runtime, images: NDArray[Any]) -> NDArray[Any]:
    (output,) = runtime.infer({"input": images}).values()
    return output
