"""Scores become masks, a layer at a time wherever layers do not compete with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsify.masks.allocate import allocate
from sparsify.masks.overrides import check_overrides
from sparsify.masks.select import Allocation, select
from sparsify.recipe.pattern import Pattern
from sparsify_export.pruning.tensors import Bools
from sparsify_export.pruning.views import put_back
from sparsify_export.pruning.weights import Weight


@dataclass(frozen=True)
class Kept:
    """A mask of one stored tensor, an eighth of a byte a weight."""

    bits: NDArray[np.uint8]
    shape: tuple[int, ...]

    def mask(self) -> Bools:
        """True = kept, in the stored shape."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.unpackbits(self.bits, count=count).astype(np.bool_).reshape(self.shape)


@dataclass(frozen=True)
class Choice:
    """What stays of each weight, by name."""

    kept: Mapping[str, Kept]
    asked: Mapping[str, float | None]
    """Sparsity asked of each layer; None where layers compete and only their total is."""
    skipped: Mapping[str, str]
    """Layers that were left dense, and why."""


def choose(
    weights: Sequence[Weight],
    score: Callable[[Weight], Tensor],
    *,
    pattern: Pattern,
    sparsity: float | None,
    allocation: Allocation,
    overrides: Mapping[str, float],
) -> Choice:
    """Score and select.

    Args:
        weights: Of one graph.
        score: Gives a weight's scores (out, in, ...); called once for each.
        pattern: Taken over (out, in, ...), N:M along axis 1.
        sparsity: Fraction to remove of the weights without an override; None with N:M, which says it itself.
        allocation: Who competes with whom; N:M never lets layers compete.
        overrides: Glob over the names of tensors and nodes -> sparsity, 0 for leaving it dense; the longest match wins.

    Raises:
        UsageError: An override matches nothing, or a sparsity is out of range.
    """
    globs = _globs(weights, overrides)
    dense = {name: f"left dense by the override {glob!r}: 0" for name, glob in globs.items() if not overrides[glob]}
    own = {name: overrides[glob] for name, glob in globs.items() if name not in dense}
    kept: dict[str, Kept] = {}
    asked: dict[str, float | None] = {}
    for group in _competing([weight for weight in weights if weight.name not in dense], own, pattern, allocation):
        fraction = own.get(group[0].name, sparsity)
        scores = {weight.name: score(weight) for weight in group}
        selection = select(scores, pattern=pattern, sparsity=fraction, allocation=allocation)
        del scores
        dense |= selection.skipped
        pruned = {weight.name: weight for weight in group if weight.name not in selection.skipped}
        kept |= {name: _packed(weight, selection.mask[name]) for name, weight in pruned.items()}
        asked |= _asked(pruned, pattern.sparsity if fraction is None else fraction, allocation, alone=len(group) == 1)
    return Choice(kept, asked, dense)


def _competing(
    weights: Sequence[Weight], own: Mapping[str, float], pattern: Pattern, allocation: Allocation
) -> list[list[Weight]]:
    """Weights grouped by who must be scored before any is removed."""
    separate = pattern.kind == "nm" or allocation == "uniform"
    alone = [weight for weight in weights if separate or weight.name in own]
    together = [weight for weight in weights if not separate and weight.name not in own]
    return [[weight] for weight in alone] + ([together] if together else [])


def _asked(
    pruned: Mapping[str, Weight], sparsity: float | None, allocation: Allocation, *, alone: bool
) -> dict[str, float | None]:
    if allocation == "erk" and not alone and sparsity is not None:
        return {**allocate({name: weight.shape for name, weight in pruned.items()}, sparsity, "erk", {})}
    return dict.fromkeys(pruned, None if allocation == "global" and not alone else sparsity)


def _globs(weights: Sequence[Weight], overrides: Mapping[str, float]) -> dict[str, str]:
    """For each tensor the longest glob that matches it, by its own name or by that of a node that multiplies by it.

    Raises:
        UsageError: A glob matches nothing, or its number is no fraction.
    """
    names = {weight.name: (weight.name, *weight.nodes) for weight in weights}
    check_overrides([name for listed in names.values() for name in listed], overrides)
    found: dict[str, str] = {}
    for weight, listed in names.items():
        if matching := [glob for glob in overrides if any(fnmatchcase(name, glob) for name in listed)]:
            found[weight] = max(matching, key=lambda glob: (len(glob), glob))
    return found


def _packed(weight: Weight, mask: Tensor) -> Kept:
    stored = put_back(weight.view, mask, weight.stored.shape)
    bits = np.packbits(stored.contiguous().reshape(-1).numpy())
    return Kept(bits, weight.stored.shape)
