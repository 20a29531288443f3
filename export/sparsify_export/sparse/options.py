"""What the pass is asked for. Plain data: nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from sparsify.errors import UsageError

Precision: TypeAlias = Literal["f32", "i8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class SparseOptions:
    """How a graph is rewritten."""

    precision: Precision = "f32"
    """`i8`: weights rounded to 8 bits by row, activations where they are used."""
    min_sparsity: float | None = None
    """From where a layer is replaced; None compares expected times."""


DEFAULTS = SparseOptions()


def read_options(precision: str, min_sparsity: str) -> SparseOptions:
    """The options as a person writes them; raises UsageError that names the flag."""
    if precision not in PRECISIONS:
        raise UsageError(f"--precision: expected {' or '.join(PRECISIONS)}, got {precision!r}")
    if min_sparsity == "auto":
        return SparseOptions(precision)
    try:
        least = float(min_sparsity)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UsageError(f"--min-sparsity: expected auto, or a number from 0 to 1, got {min_sparsity!r}")
    return SparseOptions(precision, least)
