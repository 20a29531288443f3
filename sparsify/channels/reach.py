"""How far channels can go: the most that a network gives, as sparsity and as MACs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from sparsify.channels.contest import check_overrides, contest
from sparsify.channels.cost import Cost
from sparsify.channels.macs import count_macs
from sparsify.channels.preflight import Preflight
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.models.build import prunable
from sparsify.models.history import replay


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
