"""A mask shuffled within each layer, in the units that its pattern chooses by: the sanity check of any criterion.

What does as well shuffled told nothing but the layers' counts. Frankle et al. 2021, arXiv 2009.08576, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.block import block_sums, spread, tile
from sparsify.masks.mask import Mask
from sparsify.recipe.pattern import Pattern


def shuffled(mask: Mask, pattern: Pattern, seed: int, axes: Mapping[str, int] | None = None) -> Mask:
    """The mask with what it keeps drawn anew, uniformly, of the same counts and the same pattern.

    Single weights are permuted over their layer, blocks too; of n:m, the places within each group of m.

    Args:
        mask: of that pattern, or whole in layers that it does not fit.
        pattern: `unstructured`, `n:m` or `block:RxC`.
        seed: what it is drawn from.
        axes: parameter name -> input axis, where it is not 1.

    Raises:
        UsageError: the pattern is `channel`, which is no mask's.
    """
    generator = torch.Generator().manual_seed(seed)
    if pattern.kind == "channel":
        raise UsageError("shuffled: expected a mask's pattern, got channel, whose importances are shuffled instead")
    if pattern.kind == "unstructured":
        return Mask({name: _permuted(kept, generator) for name, kept in mask.items()})
    drawn = {name: kept for name, kept in mask.items() if bool(kept.all())}
    for name, kept in mask.items():
        if name in drawn:
            continue
        axis = (axes or {}).get(name, 1)
        if pattern.kind == "nm":
            drawn[name] = _within_groups(kept, pattern.m, axis, generator)
        else:
            rows, cols = tile(pattern, axis)
            blocks = block_sums(kept.float(), rows, cols) > 0
            drawn[name] = spread(_permuted(blocks, generator), rows, cols, kept.shape)
    return Mask(drawn)


def _permuted(kept: Tensor, generator: torch.Generator) -> Tensor:
    return kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept)


def _within_groups(kept: Tensor, m: int, axis: int, generator: torch.Generator) -> Tensor:
    """Each group of m along `axis` in an order of its own."""
    groups = kept.reshape(math.prod(kept.shape[:axis]), -1, m, math.prod(kept.shape[axis + 1 :]))
    order = torch.rand(groups.shape, dtype=torch.float64, generator=generator).argsort(dim=2)
    return groups.gather(2, order).reshape(kept.shape)
