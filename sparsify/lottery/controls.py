"""The controls that a claim about a ticket needs: each says which mask, and which weights it starts from.

| control | mask | weights | tells whether |
|---|---|---|---|
| `reinit` | the ticket's | redrawn | the initial weights matter |
| `shuffled-mask` | the ticket's, shuffled within each layer | the dense network's | the connections matter |
| `random-mask` | random, of the same per-layer density | redrawn | anything of the ticket matters |
| `one-shot` | dense pruned to the level's counts in one step | the dense network's | iterating matters |

The dense network's weights are those at the rewind step, as the ticket's are; where a recipe rewinds to no step, they
are the trained ones, since the level before has no value left at connections that a control may keep.

`reinit`, `random-mask`: Frankle & Carbin 2019 (arXiv 1803.03635), section 2 and figure 1. `shuffled-mask`: Frankle et
al. 2021 (arXiv 2009.08576).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.masks.mask import Mask
from sparsify.masks.shuffled import shuffled
from sparsify.recipe.pattern import Pattern


def shuffled_mask(mask: Mask, seed: int) -> Mask:
    """The mask with its entries permuted uniformly within each layer; counts are kept, n:m and blocks are not."""
    return shuffled(mask, Pattern("unstructured"), seed)


def random_set(mask: Mask, seed: int) -> Mask:
    """A uniformly random mask with the per-layer counts of `mask`: every such mask is equally likely."""
    generator = torch.Generator().manual_seed(seed)
    kept: dict[str, Tensor] = {}
    for name, count in mask.layer_kept.items():
        flat = torch.zeros(mask[name].numel(), dtype=torch.bool)
        flat[torch.randperm(flat.numel(), generator=generator)[:count]] = True
        kept[name] = flat.view_as(mask[name])
    return Mask(kept)


def shuffled_values(weights: Mapping[str, Tensor], mask: Mask, seed: int) -> dict[str, Tensor]:
    """`weights` with the values that `mask` keeps permuted among the kept positions of each layer."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = dict(weights)
    for name, kept in mask.items():
        values = weights[name][kept]
        shuffled[name] = weights[name].clone()
        shuffled[name][kept] = values[torch.randperm(values.numel(), generator=generator)]
    return shuffled
