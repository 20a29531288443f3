"""`select`: from scores to an exact mask, for any pattern and allocation; tells what was left dense, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation
from sparsify.masks.block import block_sums, spread, tile
from sparsify.masks.exact import keep_highest
from sparsify.masks.mask import Mask
from sparsify.masks.nm import keep_n_of_m
from sparsify.masks.plan import plan, require_some
from sparsify.recipe.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Selection:
    """A mask, and by parameter name why a layer was left dense."""

    mask: Mask
    skipped: dict[str, str]


def select(
    scores: Mapping[str, Tensor],
    *,
    pattern: Pattern,
    sparsity: float | None = None,
    allocation: Allocation = "global",
    overrides: Mapping[str, float] | None = None,
    axes: Mapping[str, int] | None = None,
) -> Selection:
    """Keep the highest scores that the pattern allows.

    Counts are exact: of the weights (or blocks) that compete, the nearest whole number to `sparsity` is removed, halves
    up, never the last one. Of equal scores the higher index goes first (parameters in order of name, then row-major).
    `sparsity` is that of the layers that compete; what is skipped or overridden is beside it.

    Args:
        scores: parameter name -> scores of the parameter's shape, finite; the highest are kept.
        pattern: which weights go together; `channel` is not a mask and refused.
        sparsity: fraction to remove, from 0 to below 1; for n:m it follows from the pattern and may be left out.
        allocation: `global` lets all layers compete, `uniform` and `erk` set each layer's share (see `allocate`);
            n:m has the same share everywhere.
        overrides: glob over layers or their weights -> sparsity of that layer, which then competes with no other; 0
            leaves it dense.
        axes: parameter name -> input axis, where it is not 1 (0 for the (in, out) weights of transformers' Conv1D).

    Raises:
        UsageError: the pattern is `channel`, a sparsity cannot be had, an override matches nothing, or scores are
            not finite.
    """
    axes = axes or {}
    scores = {name: scores[name].detach().cpu() for name in sorted(scores)}
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    todo = plan(shapes, pattern=pattern, sparsity=sparsity, allocation=allocation, overrides=overrides or {}, axes=axes)
    require_some(todo, pattern)
    _check_finite(scores)
    kept = {name: torch.ones(shapes[name], dtype=torch.bool) for name in todo.skipped}
    for name in todo.names if pattern.kind == "nm" else ():
        kept[name] = keep_n_of_m(scores[name], pattern.n, pattern.m, axes.get(name, 1))
    for group in todo.groups:
        if pattern.kind == "block":
            kept |= _keep_blocks({name: scores[name] for name in group.names}, group.kept, pattern, axes)
        else:
            kept |= zip(group.names, keep_highest([scores[name] for name in group.names], group.kept), strict=True)
    return Selection(Mask(kept), todo.skipped)


def _keep_blocks(
    scores: Mapping[str, Tensor], count: int, pattern: Pattern, axes: Mapping[str, int]
) -> dict[str, Tensor]:
    """Keep the `count` blocks of several parameters that have the highest sums."""
    tiles = {name: tile(pattern, axes.get(name, 1)) for name in scores}
    sums = {name: block_sums(score, *tiles[name]) for name, score in scores.items()}
    _check_finite(sums)
    kept = keep_highest(list(sums.values()), count)
    return {name: spread(part, *tiles[name], scores[name].shape) for name, part in zip(scores, kept, strict=True)}


def _check_finite(scores: Mapping[str, Tensor]) -> None:
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise UsageError(f"scores of {name}: expected finite numbers, got nan or inf")
