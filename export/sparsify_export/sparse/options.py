"""What the pass is asked for, and how a person writes it. Plain data: nothing heavy is imported."""

from __future__ import annotations

from typing import Any, get_args

from sparsify.errors import UsageError
from sparsify.recipe.spec import SparsePrecision as Precision
from sparsify.recipe.spec import SparseSpec

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULTS = SparseSpec()


def read_options(precision: str | None, min_sparsity: str | None) -> SparseSpec | None:
    """The flags as a recipe's `export.sparse`, None where neither is given. Raises UsageError that names the flag."""
    given: dict[str, Any] = {}
    if precision is not None:
        if precision not in PRECISIONS:
            raise UsageError(f"--precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        given["precision"] = precision
    if min_sparsity is not None:
        given["min_sparsity"] = _least(min_sparsity)
    return SparseSpec(**given) if given else None


def _least(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        least = float(text)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UsageError(f"--min-sparsity: expected auto, or a number from 0 to 1, got {text!r}")
    return least
