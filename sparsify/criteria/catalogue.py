"""What criteria there are, in plain data: no torch, so that `ls` stays quick. The code is in `registry.py`."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class CriterionEntry:
    """One way to score weights.

    Attributes:
        name: What a recipe or `--criterion` writes.
        summary: One line for `sparsify ls criteria`.
        source: The paper, and its section where it matters.
        needs: What it looks at beside the weights; `labels` is inputs, targets and a loss.
    """

    name: str
    summary: str
    source: str
    needs: Literal["nothing", "inputs", "labels"] = "nothing"


_ENTRIES = (
    CriterionEntry(
        "magnitude",
        "Smallest absolute weights go first (Han et al. 2015, arXiv 1506.02626).",
        "Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626, section 3",
    ),
    CriterionEntry(
        "random",
        "Weights go in random order; the floor that any other criterion has to beat.",
        "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, arXiv 2202.02643",
    ),
)

CRITERIA = MappingProxyType({entry.name: entry for entry in _ENTRIES})
