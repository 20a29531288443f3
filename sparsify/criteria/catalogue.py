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
        scope: The largest set of weights whose scores may be compared: the whole network, a layer, or an output row
            of one. From scores of scope `row`, `rows.within_rows` makes some by which any selection of single weights
            or blocks takes the same share of each row.
        updates_weights: Whether it chooses the mask itself and gives new weights: it is in `registry.SOLVERS`.
    """

    name: str
    summary: str
    source: str
    needs: Literal["nothing", "inputs", "labels"] = "nothing"
    scope: Literal["network", "layer", "row"] = "network"
    updates_weights: bool = False


_ENTRIES = (
    CriterionEntry(
        "magnitude",
        "Smallest absolute weights go first; of channels, least sums of them: the L1 norm (Han et al. 2015, "
        "arXiv 1506.02626).",
        "Han et al. 2015, Learning both Weights and Connections, arXiv 1506.02626, section 3",
    ),
    CriterionEntry(
        "random",
        "Weights go in random order; the floor that any other criterion has to beat.",
        "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, arXiv 2202.02643",
    ),
    CriterionEntry(
        "lamp",
        "Magnitude scaled within its layer, so that layers can compete (Lee et al. 2021, arXiv 2010.07611).",
        "Lee et al. 2021, Layer-adaptive Sparsity for the Magnitude-based Pruning, arXiv 2010.07611, equation 1",
    ),
    CriterionEntry(
        "snip",
        "Weights whose connection the loss answers to least go first (Lee et al. 2019, arXiv 1810.02340).",
        "Lee et al. 2019, SNIP: Single-shot Network Pruning, arXiv 1810.02340, section 4.1",
        needs="labels",
    ),
    CriterionEntry(
        "grasp",
        "Weights whose removal keeps the gradient flow best go first (Wang et al. 2020, arXiv 2002.07376).",
        "Wang et al. 2020, Picking Winning Tickets by Preserving Gradient Flow, arXiv 2002.07376, section 4",
        needs="labels",
    ),
    CriterionEntry(
        "synflow",
        "Weights that carry least of the summed flow go first; reads no data (Tanaka et al. 2020, arXiv 2006.05467).",
        "Tanaka et al. 2020, Pruning neural networks without any data, arXiv 2006.05467, section 5",
        needs="inputs",
    ),
    CriterionEntry(
        "movement",
        "Weights that training pulls towards zero go first (Sanh et al. 2020, arXiv 2005.07683).",
        "Sanh et al. 2020, Movement Pruning, arXiv 2005.07683, section 3",
        needs="labels",
    ),
    CriterionEntry(
        "taylor",
        "Weights that change the loss least, to first order and squared, go first (Molchanov et al. 2019, "
        "arXiv 1906.10771).",
        "Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, arXiv 1906.10771, equation 8",
        needs="labels",
    ),
    CriterionEntry(
        "wanda",
        "Smallest weight times the norm of its input goes first, row by row (Sun et al. 2023, arXiv 2306.11695).",
        "Sun et al. 2023, A Simple and Effective Pruning Approach for LLMs, arXiv 2306.11695, section 3",
        needs="inputs",
        scope="row",
    ),
    CriterionEntry(
        "sparsegpt",
        "What a layer's output misses least goes first, and what is kept makes up for it (Frantar & Alistarh 2023, "
        "arXiv 2301.00774).",
        "Frantar & Alistarh 2023, SparseGPT, arXiv 2301.00774, algorithm 1",
        needs="inputs",
        scope="layer",
        updates_weights=True,
    ),
)

CRITERIA = MappingProxyType({entry.name: entry for entry in _ENTRIES})
