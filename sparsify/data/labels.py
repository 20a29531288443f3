"""Labels of every kind a source may bring: classes, classes a position, values, or none at all."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import CorruptError, UsageError

LabelKind = Literal["classes", "positions", "values", "none"]
Labels = NDArray[np.int64] | NDArray[np.float32]

UNLABELLED = -100  # a position whose label counts nowhere, as torch has it


def no_labels(examples: int) -> NDArray[np.float32]:
    """What stands for labels where there are none: (N, 0), which nothing can mistake for a label."""
    return np.zeros((examples, 0), np.float32)


def kind_of(labels: NDArray[Any]) -> LabelKind:
    """`values` are floats, `classes` integers (N,), `positions` integers (N, T) or (N, H, W), `none` is (N, 0)."""
    if labels.ndim == 2 and labels.shape[1] == 0:
        return "none"
    if labels.dtype.kind == "f":
        return "values"
    return "classes" if labels.ndim == 1 else "positions"


def to_labels(array: NDArray[Any], examples: int, name: str, *, positions: tuple[int, ...] = ()) -> Labels:
    """Labels as they lie on disk to int64 or float32.

    Args:
        array: Integers (N,) or (N, 1), floats (N,) or (N, K), or integers (N, *positions).
        examples: N.
        name: What errors call the array.
        positions: Shape of the classes of one example, where each of its positions may have one; empty where not.

    Raises:
        UsageError: The type or the shape is another.
        CorruptError: A float is not finite.
    """
    if array.dtype.kind == "f":
        return _values(array, examples, name)
    if array.dtype.kind not in "iub":
        raise UsageError(f"{name}: expected integer labels, or floats to regress on, got {array.dtype}; convert them")
    shaped = positions and array.shape == (examples, *positions)
    if array.shape not in ((examples,), (examples, 1)) and not shaped:
        dense = f", or {(examples, *positions)}" if positions else ""
        raise UsageError(
            f"{name}: expected one label for each of {examples} examples, shape ({examples},){dense}, "
            f"got shape {array.shape}"
        )
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{name}: expected labels 0 to classes - 1, got {array.max()}; renumber them")
    labels = array.astype(np.int64)
    return labels if shaped else labels.reshape(examples)


def _values(array: NDArray[Any], examples: int, name: str) -> NDArray[np.float32]:
    if array.ndim not in (1, 2) or len(array) != examples or 0 in array.shape[1:]:
        raise UsageError(
            f"{name}: expected values for each of {examples} examples, shape ({examples},) or ({examples}, K), "
            f"got shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise CorruptError(f"{name}: expected finite values, got one that is not")
    return values
