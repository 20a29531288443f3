"""Holm's step-down procedure: family-wise error at most alpha, under any dependence.

Holm 1979, "A simple sequentially rejective multiple test procedure". With p_(1) <= .. <= p_(m), the adjusted value is
max over j <= i of (m - j + 1) p_(j), capped at 1; a hypothesis is rejected when its adjusted value is at most alpha.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sparsify.errors import UsageError

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class HolmResult:
    """One hypothesis of a family: its own p, the p adjusted for the family, and whether it is rejected."""

    p: float
    adjusted: float
    reject: bool


def holm(pvalues: Mapping[Key, float], alpha: float) -> dict[Key, HolmResult]:
    """Adjust a family of p values.

    Args:
        pvalues: p of each hypothesis by key; may be empty.
        alpha: Family-wise error rate in (0, 1).

    Returns:
        One result per key, in the order of `pvalues`.

    Raises:
        UsageError: If alpha or a p is out of range.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha: expected an error rate between 0 and 1, got {alpha}; 0.05 is usual")
    for key, p in pvalues.items():
        if not 0 <= p <= 1:
            raise UsageError(f"p of {key}: expected a probability, got {p}")
    adjusted: dict[Key, float] = {}
    running = 0.0
    for rank, key in enumerate(sorted(pvalues, key=lambda k: pvalues[k])):
        running = max(running, min(1.0, (len(pvalues) - rank) * pvalues[key]))
        adjusted[key] = running
    return {key: HolmResult(p, adjusted[key], adjusted[key] <= alpha) for key, p in pvalues.items()}
