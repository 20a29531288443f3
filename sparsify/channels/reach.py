"""How far channels can go: the most that a network gives, as sparsity and as MACs, and what lies beyond it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from sparsify.channels.contest import check_overrides, contest
from sparsify.channels.cost import Cost
from sparsify.channels.group import shown
from sparsify.channels.macs import count_macs
from sparsify.channels.preflight import Preflight
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.models.build import prunable
from sparsify.models.history import replay

GRACE = 1e-12
"""What a target may be missed by: sums in floating point."""


@dataclass(frozen=True)
class Reach:
    """The most that can go, and what was there."""

    sparsity: float
    """Fraction of the prunable weights that can go."""
    macs: float
    """Fraction of the dense MACs that then remains."""
    weights: int
    """Prunable weights of the dense network."""
    macs_dense: int
    """MACs of one example through it."""
    narrow: Mapping[str, str] = field(default_factory=dict[str, str])
    """Layer -> why the rounding leaves it whole, and all that is coupled to it."""


def reach(
    module: nn.Module,
    example: Tensor,
    found: Preflight,
    *,
    round_to: int = 1,
    overrides: Mapping[str, float] | None = None,
) -> Reach:
    """What is left of `module` when all that may go is gone: one unit in each layer, or what it is rounded to.

    Args:
        module: The network.
        example: Inputs (N, ...) that it takes.
        found: Its preflight.
        round_to: Channels left are a multiple of it, or all.
        overrides: Glob over modules or weights -> fraction of that layer's channels that goes, whatever else does.

    Raises:
        UsageError: An override matches no layer, or is no fraction.
    """
    ready, overrides = replay(copy.deepcopy(module), found.rewritten), overrides or {}
    check_overrides(ready, overrides)
    names, dense = prunable(ready), count_macs(ready, example[:1])
    shapes = {name: tuple(ready.get_parameter(name).shape) for name in names}
    scores = magnitude(Context(ready, names, seed=0))
    rivals = contest(found.groups, scores, overrides=overrides, round_to=round_to)
    cost = Cost(found.groups, shapes, dense)
    weights = sum(map(prod, shapes.values()))
    return Reach(cost.sparsity(rivals.most), cost.macs(rivals.most), weights, dense.total, rivals.narrow)


def beyond(
    asked: Mapping[str, float], *, sparsity: float, macs: float, round_to: int, skipped: Mapping[str, str]
) -> str:
    """Why a target lies beyond what a network gives, and what it gives; empty where it can be had.

    Args:
        asked: `sparsity` or `macs` -> what is asked of it; empty for whatever can go, as a search takes it.
        sparsity: The most that can go.
        macs: The share of MACs that is then left.
        round_to: What the channels left are a multiple of.
        skipped: Layer -> why its channels stay.
    """
    fewer = "" if round_to == 1 else f", round to fewer than {round_to} channels"
    if not asked:
        if sparsity > 0:
            return ""
        wanted = "channels: none can go" + ("" if round_to == 1 else f" in multiples of {round_to}")
        mend = f"{fewer.removeprefix(', ')}, or prune" if fewer else "prune"
        mend += " with the pattern unstructured, whose zeros the target sparse-cpu skips"
    elif asked.get("sparsity", 0.0) > sparsity + GRACE:
        wanted = f"sparsity: asked for {asked['sparsity']:g}, but at most {sparsity:.4g} can go"
        mend = f"ask for less{fewer}, or prune with the pattern unstructured"
    elif asked.get("macs", 1.0) < macs - GRACE:
        wanted = f"macs: asked for {asked['macs']:g}, but at least {macs:.4g} are left"
        mend = f"let more remain{fewer}"
    else:
        return ""
    alone = "; ".join(f"{shown(layer)}: {reason}" for layer, reason in list(skipped.items())[:4])
    return f"{wanted}; {mend}. Layers left alone: {alone or 'none'}"


def only_masked(why: str) -> str:
    """Why no work can be saved where channels cannot be followed."""
    return f"{why}; its channels can only be masked, which leaves the MACs: ask for a sparsity"
