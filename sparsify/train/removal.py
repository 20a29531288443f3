"""What is removed in the end, and the way there: the same pattern and allocation at a share of the sparsity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.select import Allocation, select
from sparsify.recipe.pattern import Pattern


@dataclass(frozen=True)
class Removal:
    """The arguments of `masks.select.select`, kept until there are scores.

    Attributes:
        pattern: which weights go together.
        sparsity: fraction to remove; for n:m it follows from the pattern, and None says so.
        allocation: how layers share it.
        overrides: glob over layers or their weights -> sparsity of its own; 0 leaves a layer dense.
        axes: parameter name -> input axis, where it is not 1.
    """

    pattern: Pattern
    sparsity: float | None = None
    allocation: Allocation = "global"
    overrides: Mapping[str, float] = field(default_factory=dict[str, float])
    axes: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def target(self) -> float:
        """Sparsity to reach, of the layers that compete.

        Raises:
            UsageError: neither given nor told by the pattern.
        """
        target = self.pattern.sparsity if self.sparsity is None else self.sparsity
        if target is None:
            raise UsageError(
                f"sparsity: expected a fraction from 0 to below 1 for pattern {self.pattern}, got none; give one"
            )
        return target

    def prune(self, mask: Mask, scores: Mapping[str, Tensor], share: float) -> Mask:
        """Keep the highest `scores` at `share` of the sparsity; what `mask` removes goes before all else.

        Counts are those of `share`, exactly: where they ask for more weights than `mask` keeps, some return. A share of
        n:m is k:m with the smallest k that still has the density asked for.

        Raises:
            UsageError: as `select` does.
        """
        if self.pattern.kind == "nm":
            n, m = self.pattern.n, self.pattern.m
            k = max(n, math.ceil(m * (1 - self.target * share) - 1e-9))
            if k == m:
                return Mask({name: torch.ones_like(mask[name]) for name in mask})
            pattern, sparsity = Pattern("nm", n=k, m=m), None
            overrides = {glob: number and 1 - k / m for glob, number in self.overrides.items()}
        else:
            pattern, sparsity = self.pattern, self.target * share
            overrides = {glob: number * share for glob, number in self.overrides.items()}
        return select(
            _removed_first(mask, scores),
            pattern=pattern,
            sparsity=sparsity,
            allocation=self.allocation,
            overrides=overrides,
            axes=self.axes,
        ).mask


def _removed_first(mask: Mask, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores of what is kept, moved to 0 and above, and -1 for what is removed."""
    if mask.kept == mask.total:
        return dict(scores)
    lowest = min((float(scores[name].min()) for name in mask if scores[name].numel()), default=0.0)
    return {name: torch.where(kept, scores[name] - min(lowest, 0.0), -1.0) for name, kept in mask.items()}
