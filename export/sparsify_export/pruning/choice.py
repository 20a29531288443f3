"""Scores become masks: those that `select` gives, with one layer's scores in memory at a time.

Where layers compete, the score at which to cut is found by radix selection over passes through all layers
(`sparsify.masks.rank`), each of which reads and scores them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation
from sparsify.masks.block import block_sums, spread
from sparsify.masks.exact import keep_highest
from sparsify.masks.nm import keep_n_of_m
from sparsify.masks.overrides import check_overrides, means
from sparsify.masks.plan import Group, plan
from sparsify.masks.rank import take, threshold
from sparsify.recipe.pattern import Pattern
from sparsify_export.pruning.tensors import Bools
from sparsify_export.pruning.views import put_back
from sparsify_export.pruning.weights import Weight

Score = Callable[[Weight], Tensor]


@dataclass(frozen=True)
class Kept:
    """A mask of one stored tensor, an eighth of a byte a weight."""

    bits: NDArray[np.uint8]
    shape: tuple[int, ...]

    def mask(self) -> Bools:
        """True = kept, in the stored shape."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.unpackbits(self.bits, count=count).view(np.bool_).reshape(self.shape)


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
    score: Score,
    *,
    pattern: Pattern,
    sparsity: float | None,
    allocation: Allocation,
    overrides: Mapping[str, float],
) -> Choice:
    """Score and select; which is kept, in what counts and after which ties, is `sparsify.masks.select`'s rule.

    Args:
        weights: Of one graph.
        score: Gives a weight's scores (out, in, ...), none below zero; called up to four times for each.
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
    by_name = {weight.name: weight for weight in weights if weight.name not in dense}
    todo = plan(
        {name: weight.shape for name, weight in by_name.items()},
        pattern=pattern,
        sparsity=sparsity,
        allocation=allocation,
        overrides={escape(name): value for name, value in own.items()},
        axes={},
    )
    kept: dict[str, Kept] = {}
    asked: dict[str, float | None] = {name: own.get(name, pattern.sparsity) for name in todo.names}
    for name in todo.names if pattern.kind == "nm" else ():
        kept[name] = _packed(by_name[name], keep_n_of_m(score(by_name[name]), pattern.n, pattern.m, 1))
    for group in todo.groups:
        kept |= _of_group([by_name[name] for name in group.names], group.kept, score, pattern)
        asked |= {name: _asked(by_name[name], group, own, pattern, allocation, sparsity) for name in group.names}
    misfits = {name: _misfit(by_name[name], reason, pattern) for name, reason in todo.skipped.items()}
    return Choice(kept, asked, {**dense, **misfits})


def _misfit(weight: Weight, reason: str, pattern: Pattern) -> str:
    """Why a layer stays dense, in words that hold for a stored tensor whose axes lie otherwise than (out, in, ...)."""
    if pattern.kind == "nm":
        return f"it multiplies over {weight.shape[1]} inputs, which is no multiple of {pattern.m}"
    return f"as (outputs, inputs) it {reason}"


def _of_group(weights: Sequence[Weight], count: int, score: Score, pattern: Pattern) -> dict[str, Kept]:
    """The masks of layers that compete for `count` places, in weights or blocks; ties go to the first ones."""
    if len(weights) == 1:
        (mask,) = keep_highest([_units(weights[0], score, pattern)], count)
        return {weights[0].name: _packed(weights[0], _whole(weights[0], mask, pattern))}
    wide = any(weight.stored.dtype == torch.float64 for weight in weights)
    dtype = np.dtype(np.float64 if wide else np.float32)

    def flat(weight: Weight) -> NDArray[Any]:
        return _units(weight, score, pattern).reshape(-1).numpy().astype(dtype, copy=False)

    def keys() -> Iterator[NDArray[Any]]:
        yield from (flat(weight).view(f"u{dtype.itemsize}") for weight in weights)

    units = sum(weight.stored.elements for weight in weights) // max(pattern.rows * pattern.cols, 1)
    cut = threshold(keys, count, units, bits=8 * dtype.itemsize)
    value = float(np.array(cut.key, f"u{dtype.itemsize}").view(dtype))
    kept: dict[str, Kept] = {}
    ties = cut.ties
    for weight in weights:
        mask, ties = take(flat(weight), value, ties)
        kept[weight.name] = _packed(weight, _whole(weight, torch.from_numpy(mask), pattern))
    return kept


def _units(weight: Weight, score: Score, pattern: Pattern) -> Tensor:
    """Scores of what is kept or removed whole: weights, or blocks (height, width).

    Raises:
        UsageError: One is not finite; names the weight.
    """
    scores = score(weight)
    units = block_sums(scores, pattern.rows, pattern.cols) if pattern.kind == "block" else scores
    if not bool(torch.isfinite(units).all()):
        raise UsageError(
            f"scores of {weight.name}: expected finite numbers, got nan or inf; leave it out by an override"
        )
    return units.contiguous()


def _whole(weight: Weight, units: Tensor, pattern: Pattern) -> Tensor:
    """The mask (out, in, ...) from that of the units."""
    if pattern.kind != "block":
        return units.reshape(weight.shape)
    height = weight.shape[0] // pattern.rows
    return spread(units.reshape(height, -1), pattern.rows, pattern.cols, weight.shape)


def _asked(
    weight: Weight,
    group: Group,
    own: Mapping[str, float],
    pattern: Pattern,
    allocation: Allocation,
    sparsity: float | None,
) -> float | None:
    if weight.name in own:
        return own[weight.name]
    if allocation == "erk":
        return 1 - group.kept * max(pattern.rows * pattern.cols, 1) / weight.stored.elements
    return sparsity if allocation == "uniform" else None


def _globs(weights: Sequence[Weight], overrides: Mapping[str, float]) -> dict[str, str]:
    """For each tensor the longest glob that matches it, by its own name or by that of a node that multiplies by it.

    Raises:
        UsageError: A glob matches nothing, or its number is no fraction.
    """
    names = {weight.name: (weight.name, *weight.nodes) for weight in weights}
    check_overrides([name for listed in names.values() for name in listed], overrides)
    found: dict[str, str] = {}
    for weight, listed in names.items():
        if matching := [glob for glob in overrides if any(means(glob, name) for name in listed)]:
            found[weight] = max(matching, key=lambda glob: (len(glob), glob))
    return found


def _packed(weight: Weight, mask: Tensor) -> Kept:
    stored = put_back(weight.view, mask.reshape(weight.shape), weight.stored.shape)
    bits = np.packbits(stored.contiguous().reshape(-1).numpy())
    return Kept(bits, weight.stored.shape)
