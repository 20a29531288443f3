"""A row of the table of layers: one tensor, how many of its elements are kept, and what that is as sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def layer(name: str, dtype: str, shape: Sequence[int], kept: int) -> dict[str, Any]:
    """One tensor.

    Args:
        name: Its name.
        dtype: Its element type, such as `float32`.
        shape: Its shape.
        kept: Elements that are not zero; of a mask, those that are true.
    """
    elements = math.prod(shape)
    return {
        "name": name,
        "dtype": dtype,
        "shape": list(shape),
        "elements": elements,
        "kept": kept,
        "sparsity": sparsity(kept, elements),
    }


def totals(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Elements, kept and sparsity over several tensors."""
    elements = sum(one["elements"] for one in layers)
    kept = sum(one["kept"] for one in layers)
    return {"elements": elements, "kept": kept, "sparsity": sparsity(kept, elements)}


def sparsity(kept: int, elements: int) -> float:
    """Fraction removed; 0 of nothing."""
    return 1.0 - kept / elements if elements else 0.0
