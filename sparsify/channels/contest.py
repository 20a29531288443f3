"""Who goes first: the units of all groups in order of their worth, and what overrides took out of the competition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsify.channels.group import Group
from sparsify.channels.importance import importance
from sparsify.channels.preflight import check_globs, matches
from sparsify.channels.select import Allocation, Ladder, ladder, select
from sparsify.errors import UsageError

Selected = dict[str, tuple[int, ...]]
"""Root of a group -> the units of it that go."""


@dataclass(frozen=True)
class Contest:
    """Groups whose units compete, and those that an override decided."""

    worth: Mapping[str, Tensor]
    """Root -> importance of each unit."""
    ladders: Mapping[str, Ladder]
    """Root -> its units in the order in which they go."""
    fixed: Mapping[str, tuple[int, ...]]
    """Root -> the units that go by its override."""

    def select(self, reached: Callable[[Mapping[str, Sequence[int]]], bool], allocation: Allocation) -> Selected | None:
        """As few units as `reached` is content with; None where even all that may go are not enough."""
        return select(self._free, self.worth, reached, allocation=allocation, fixed=self.fixed)

    @property
    def most(self) -> Selected:
        """All that may go: what is left of each group is the least that it can be rounded to."""
        return dict(self.fixed) | {rungs.root: rungs.removed(len(rungs.order)) for rungs in self._free}

    @property
    def narrow(self) -> dict[str, str]:
        """Root -> why it stays, of the groups too narrow for the rounding."""
        return {
            root: f"its {len(rungs.order)} units are too few to leave a multiple of what was asked to round to"
            for root, rungs in self.ladders.items()
            if len(rungs.allowed) == 1
        }

    @property
    def _free(self) -> list[Ladder]:
        return [rungs for root, rungs in self.ladders.items() if root not in self.fixed]


def contest(
    groups: Sequence[Group],
    scores: Mapping[str, Tensor],
    *,
    overrides: Mapping[str, float],
    round_to: int,
    shuffle: int | None = None,
) -> Contest:
    """The contest of `groups` by the scores of their weights.

    Args:
        groups: What may lose units.
        scores: Weight name -> score of each weight, higher = keep.
        overrides: Glob over modules or weights -> fraction of a group's units to remove.
        round_to: Channels left are a multiple of it, or all.
        shuffle: Seed by which worths are permuted within each group, as a check of the scores; None leaves them.

    Raises:
        UsageError: `round_to` is no whole number from 1.
    """
    if round_to < 1:
        raise UsageError(f"round_to: expected a whole number from 1, got {round_to}")
    worth = {group.root: importance(group, scores) for group in groups}
    if shuffle is not None:
        generator = torch.Generator().manual_seed(shuffle)
        worth = {root: each[torch.randperm(len(each), generator=generator)] for root, each in worth.items()}
    ladders = {group.root: ladder(group, worth[group.root], round_to=round_to) for group in groups}
    fixed = {
        group.root: ladders[group.root].removed(math.floor(group.units * fraction + 0.5))
        for group in groups
        if (fraction := override(group, overrides)) is not None
    }
    return Contest(worth, ladders, fixed)


def override(group: Group, overrides: Mapping[str, float]) -> float | None:
    """The fraction of the longest glob that matches a layer whose outputs the group cuts; None without one."""
    matching = [glob for glob in overrides if any(matches(name, glob) for name in group.writers)]
    return overrides[max(matching, key=lambda glob: (len(glob), glob))] if matching else None


def check_overrides(module: nn.Module, overrides: Mapping[str, float]) -> None:
    """Refuse overrides that match nothing or are no fractions.

    Raises:
        UsageError: Naming the glob.
    """
    check_globs("overrides", tuple(overrides), module)
    for glob, fraction in overrides.items():
        if not 0 <= fraction < 1:
            raise UsageError(f"overrides: {glob!r}: expected a fraction from 0, below 1, got {fraction}")
