"""Which units go: as few as reach the target, the least important first.

Units compete over all groups (`global`) or each group gives the same fraction (`uniform`). The number that goes is
searched by bisection, because both sparsity and MACs are monotone in it; then units are given back, the most important
first, as long as the target is still met, so that what is achieved is the closest at or beyond what was asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparsify.channels.group import Group

Allocation = Literal["global", "uniform"]


@dataclass(frozen=True)
class Ladder:
    """One group's units in the order in which they go, and how many may be kept."""

    root: str
    order: tuple[int, ...]
    """Units, the first to go first; equal scores let the higher index go first."""
    allowed: tuple[int, ...]
    """Numbers of units that may be kept, descending, the full width first."""

    def removed(self, count: int) -> tuple[int, ...]:
        """Units that go when `count` want to: as many of them as an allowed number of kept ones lets go."""
        width = len(self.order)
        kept = min(number for number in self.allowed if number >= width - count)
        return tuple(sorted(self.order[: width - kept]))


def ladder(group: Group, importance: Tensor, *, round_to: int) -> Ladder:
    """The ladder of a group; kept channels are a multiple of `round_to`, at least one multiple, or all."""
    step = round_to // math.gcd(round_to, group.unit_size)
    stays = essential(group, importance)
    multiples = [kept for kept in range(group.units - group.units % step, 0, -step) if kept >= len(stays)]
    ascending: list[int] = torch.argsort(importance.flip(0), stable=True).tolist()
    order = [group.units - 1 - index for index in ascending]
    order = sorted(order, key=lambda unit: unit in stays)  # a stable sort: the essential last
    return Ladder(group.root, tuple(order), tuple(dict.fromkeys([group.units, *multiples])))


def essential(group: Group, importance: Tensor) -> frozenset[int]:
    """Units that must stay so that no layer is emptied: of a layer that lies in some units only, the most important.

    A sum over concatenated maps is such a group: its channels are those of one layer first, then of another.
    """
    covers = {tuple(unit for unit, held in enumerate(cut.places) if held) for cut in group.cuts}
    partial = [cover for cover in covers if 0 < len(cover) < group.units]
    return frozenset(max(cover, key=lambda unit: (float(importance[unit]), -unit)) for cover in partial)


def select(
    ladders: Sequence[Ladder],
    importance: Mapping[str, Tensor],
    reached: Callable[[Mapping[str, tuple[int, ...]]], bool],
    *,
    allocation: Allocation,
    fixed: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[int, ...]] | None:
    """Root -> units that go, or None where even everything that may go is not enough.

    Args:
        ladders: The groups that compete.
        importance: Root -> importance of each unit.
        reached: Whether a removal meets the target; more removed never un-meets it.
        allocation: `global` or `uniform`.
        fixed: Removals decided beforehand, by groups with an override.
    """
    counts = _global_counts(ladders, importance) if allocation == "global" else _uniform_counts(ladders)

    def at(step: int) -> dict[str, tuple[int, ...]]:
        return dict(fixed) | {
            rungs.root: rungs.removed(count) for rungs, count in zip(ladders, counts(step), strict=True)
        }

    low, high = 0, sum(len(rungs.order) for rungs in ladders)
    if not reached(at(high)):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(at(middle)) else (middle + 1, high)
    return _give_back(at(low), ladders, importance, reached)


def _global_counts(ladders: Sequence[Ladder], importance: Mapping[str, Tensor]) -> Callable[[int], Sequence[int]]:
    """Step k lets the k least important units of all groups go; ties: the later group and the higher index first."""
    owner = torch.cat([torch.full((len(rungs.order),), i) for i, rungs in enumerate(ladders)] or [torch.empty(0)])
    values = torch.cat([importance[rungs.root] for rungs in ladders] or [torch.empty(0)])
    ascending = owner.flip(0)[torch.argsort(values.flip(0), stable=True)].long()
    return lambda step: torch.bincount(ascending[:step], minlength=len(ladders)).tolist()


def _uniform_counts(ladders: Sequence[Ladder]) -> Callable[[int], Sequence[int]]:
    """Step k of n lets k/n of each group go."""
    whole = sum(len(rungs.order) for rungs in ladders)
    return lambda step: [math.floor(len(rungs.order) * step / whole + 0.5) for rungs in ladders]


def _give_back(
    removed: dict[str, tuple[int, ...]],
    ladders: Sequence[Ladder],
    importance: Mapping[str, Tensor],
    reached: Callable[[Mapping[str, tuple[int, ...]]], bool],
) -> dict[str, tuple[int, ...]]:
    """Undo single steps, of the groups that lost the most important units first, while the target is still met."""
    changed = True
    while changed:
        changed = False
        worth = {
            rungs.root: float(importance[rungs.root][list(removed[rungs.root])].max())
            for rungs in ladders
            if removed[rungs.root]
        }
        for rungs in sorted(ladders, key=lambda rungs: -worth.get(rungs.root, 0.0)):
            if not removed[rungs.root]:
                continue
            kept = len(rungs.order) - len(removed[rungs.root])
            wider = min(number for number in rungs.allowed if number > kept)
            trial = removed | {rungs.root: tuple(sorted(rungs.order[: len(rungs.order) - wider]))}
            if reached(trial):
                removed, changed = trial, True
    return removed
