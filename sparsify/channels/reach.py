"""How far channels can go: the most that a network gives, as sparsity and as MACs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from sparsify.channels.contest import contest
from sparsify.channels.cost import Cost
from sparsify.channels.macs import count_macs
from sparsify.channels.preflight import Preflight
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.models.build import prunable


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
    """
    names, dense = prunable(module), count_macs(module, example[:1])
    shapes = {name: tuple(module.get_parameter(name).shape) for name in names}
    scores = magnitude(Context(module, names, seed=0))
    rivals = contest(found.groups, scores, overrides=overrides or {}, round_to=round_to)
    cost = Cost(found.groups, shapes, dense)
    weights = sum(module.get_parameter(name).numel() for name in names)
    return Reach(cost.sparsity(rivals.most), cost.macs(rivals.most), weights, dense.total, rivals.narrow)
