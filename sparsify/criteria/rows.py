"""Scores that compete within their output row alone, for criteria whose `scope` is `row` (Wanda, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def within_rows(scores: Mapping[str, Tensor], axes: Mapping[str, int] = MappingProxyType({})) -> dict[str, Tensor]:
    """Each score's rank within its output row, as a fraction of the row: (rank + 1) / length, in float64.

    Removing the lowest of these, over a layer or over the network, takes the same share of every row, to within one
    weight. Within a row the order is that of the scores; among equals the higher index ranks lower and goes first.

    Args:
        scores: parameter name -> scores (out, in, ...).
        axes: the input axis of parameters where it is not 1: 0 for a transformers `Conv1D`, whose rows are columns.
    """
    ranked: dict[str, Tensor] = {}
    for name, score in scores.items():
        swap = axes.get(name, 1) == 0
        by_row = score.transpose(0, 1) if swap else score
        ranks = _ranks(by_row.reshape(by_row.shape[0], -1)).reshape(by_row.shape)
        ranked[name] = ranks.transpose(0, 1).contiguous() if swap else ranks
    return ranked


def _ranks(rows: Tensor) -> Tensor:
    length = rows.shape[1]
    order = torch.sort(rows, dim=1, descending=True, stable=True).indices
    falling = torch.arange(length, 0, -1, dtype=torch.float64, device=rows.device) / max(length, 1)
    return torch.empty_like(rows, dtype=torch.float64).scatter_(1, order, falling.expand_as(rows))
