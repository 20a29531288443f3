"""The unstructured pattern: any set of weights may go. Exact counts; ties go to the higher index.

A removal takes the lowest-scored of the weights that remain. Between equal scores the weight with the higher index
(parameters in order of name, then row-major) is removed first, so that a mask depends on scores and counts alone.
Iterative magnitude pruning: Frankle & Carbin 2019 (arXiv 1803.03635), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.exact import keep_highest
from sparsify.masks.mask import Mask
from sparsify.masks.overrides import means, override_of

Scope = Literal["global", "per-layer"]


def removed_count(remaining: int, fraction: float) -> int:
    """Weights to remove from `remaining`: the nearest whole number, halves up, never the last weight."""
    return max(min(math.floor(remaining * fraction + 0.5), remaining - 1), 0)


def prune(
    mask: Mask,
    scores: Mapping[str, Tensor],
    *,
    fraction: float,
    overrides: Mapping[str, float],
    scope: Scope,
) -> Mask:
    """Remove `fraction` of the weights that remain in `mask`.

    Args:
        mask: what remains so far.
        scores: parameter name -> scores of the parameter's shape; the lowest go first.
        fraction: share of the remaining weights to remove.
        overrides: glob over layers or parameters -> fraction; the longest match wins, and such a layer is pruned alone.
        scope: `global` lets the layers without an override compete with each other; `per-layer` prunes each alone.

    Raises:
        UsageError: an override matches no parameter, or scores are missing, of the wrong shape or not finite.
    """
    _check(mask, scores, overrides)
    layer_kept = mask.layer_kept
    kept: dict[str, Tensor] = {}
    for names in competing(mask, overrides, scope):
        own = override_of(names[0], overrides)
        remaining = sum(layer_kept[name] for name in names)
        count = remaining - removed_count(remaining, fraction if own is None else own)
        kept |= _keep_group({name: mask[name] for name in names}, scores, count)
    return Mask({name: kept[name] for name in mask})


def keep_like(mask: Mask, scores: Mapping[str, Tensor], *, overrides: Mapping[str, float], scope: Scope) -> Mask:
    """The mask that reaches the counts of `mask` in one step: the same number of weights in each competing group.

    Used for one-shot pruning to a level that was reached iteratively, and for pruning a network again to a ticket's
    counts (`scope="per-layer"`).
    """
    _check(mask, scores, overrides)
    layer_kept = mask.layer_kept
    kept: dict[str, Tensor] = {}
    for names in competing(mask, overrides, scope):
        everything = {name: torch.ones_like(mask[name]) for name in names}
        kept |= _keep_group(everything, scores, sum(layer_kept[name] for name in names))
    return Mask({name: kept[name] for name in mask})


def competing(mask: Mask, overrides: Mapping[str, float], scope: Scope) -> list[list[str]]:
    """Parameters grouped by who competes with whom: layers with an override are always alone."""
    alone = [name for name in mask if scope == "per-layer" or override_of(name, overrides) is not None]
    together = [name for name in mask if name not in alone]
    return [[name] for name in alone] + ([together] if together else [])


def _keep_group(candidates: Mapping[str, Tensor], scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Keep the `count` highest scores over the candidates of several parameters taken together."""
    kept = keep_highest([scores[name] for name in candidates], count, list(candidates.values()))
    return dict(zip(candidates, kept, strict=True))


def _check(mask: Mask, scores: Mapping[str, Tensor], overrides: Mapping[str, float]) -> None:
    for glob in overrides:
        if not any(means(glob, name) for name in mask):
            raise UsageError(f"prune.overrides: {glob!r} matches no prunable parameter; there are {', '.join(mask)}")
    for name in mask:
        if name not in scores or scores[name].shape != mask[name].shape:
            got = tuple(scores[name].shape) if name in scores else "none"
            raise UsageError(f"scores of {name}: expected shape {tuple(mask[name].shape)}, got {got}")
        if not bool(torch.isfinite(scores[name]).all()):
            raise UsageError(f"scores of {name}: expected finite numbers, got nan or inf")
