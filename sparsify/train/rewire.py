"""Drop and grow: as many weights as before, in each layer, in other places (Evci et al. 2020, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.masks.block import block_misfit, block_sums, spread, tile
from sparsify.masks.exact import keep_highest
from sparsify.masks.mask import Mask
from sparsify.masks.nm import keep_n_of_m
from sparsify.recipe.pattern import Pattern


def rewire(
    mask: Mask,
    weights: Mapping[str, Tensor],
    growth: Mapping[str, Tensor],
    *,
    fraction: float,
    pattern: Pattern,
    axes: Mapping[str, int],
) -> Mask:
    """Drop the smallest `fraction` of each layer's kept weights, and grow as many where `growth` is highest.

    What was just dropped may be grown again at once; it then was not touched. The pattern holds: blocks are dropped and
    grown whole, by the sums over them, and for n:m each group is filled up to n again. Layers that are whole stay so.

    Args:
        mask: what is kept so far, in the pattern.
        weights: parameter name -> weights, of which the smallest magnitudes go.
        growth: parameter name -> finite scores of the same shape.
        fraction: of the kept weights, or blocks, to drop, rounded down.
        pattern: unstructured, n:m or block.
        axes: parameter name -> input axis, where it is not 1.
    """

    def layer(name: str, kept: Tensor) -> Tensor:
        if bool(kept.all()):
            return kept
        size, fresh = weights[name].detach().abs().cpu(), growth[name].detach().cpu()
        axis = axes.get(name, 1)
        if pattern.kind != "block" or block_misfit(kept.shape, pattern, axis):
            return _rewire(kept, size, fresh, fraction, pattern, axis)
        tiles = tile(pattern, axis)
        blocks = kept.reshape(kept.shape[0], -1)[:: tiles[0], :: tiles[1]]
        rewired = _rewire(blocks, block_sums(size, *tiles), block_sums(fresh, *tiles), fraction, pattern, axis)
        return spread(rewired, *tiles, kept.shape)

    return Mask({name: layer(name, kept) for name, kept in mask.items()})


def _rewire(kept: Tensor, size: Tensor, growth: Tensor, fraction: float, pattern: Pattern, axis: int) -> Tensor:
    count = int(kept.sum())
    [survivors] = keep_highest([size], count - math.floor(count * fraction), [kept])
    wanted = torch.where(survivors, torch.inf, growth)
    return keep_n_of_m(wanted, pattern.n, pattern.m, axis) if pattern.kind == "nm" else keep_highest([wanted], count)[0]
