"""Structured pruning: the least important channels are removed for good, to a target, and the result is checked.

A copy is cut, run, compared in size with the plan and in output with the masked original on real inputs; on any failure
the copy is dropped. The given module is never touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from sparsify.channels.contest import check_overrides, contest
from sparsify.channels.cost import Cost
from sparsify.channels.followed import require_groups
from sparsify.channels.importance import check_scores
from sparsify.channels.macs import Macs, count_macs
from sparsify.channels.plan import history_of
from sparsify.channels.preflight import Preflight, inspected, prepared
from sparsify.channels.reach import GRACE, beyond
from sparsify.channels.select import Allocation
from sparsify.channels.untraceable import Untraceable
from sparsify.channels.verify import Verifier, affordable
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.errors import UsageError
from sparsify.models.build import prunable
from sparsify.models.history import History, replay


@dataclass(frozen=True)
class Width:
    """One group: its channels before and after."""

    before: int
    after: int
    coupled: tuple[str, ...]
    """Other layers whose outputs went with it."""


@dataclass(frozen=True)
class Report:
    """What was asked for, what came, and what was left alone."""

    asked: Mapping[str, float]
    """`sparsity` or `macs`, as asked."""
    sparsity: float
    """Fraction of prunable weights removed."""
    macs: float
    """Fraction of the dense MACs that remains."""
    macs_dense: int
    macs_left: int
    """MACs of one example, both counted by running the network."""
    parameters_dense: int
    parameters_left: int
    widths: Mapping[str, Width]
    """Root layer -> its channels, for every group that could be cut."""
    skipped: Mapping[str, str]
    """Layer -> why its channels stay."""
    difference: float
    """Largest difference to the masked original, as a part of its largest output."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Removed:
    """A network with fewer channels, and how it came from the one it was made of."""

    module: nn.Module
    """A new module, in the modes and of the dtypes of the original."""
    history: History
    """JSON; `replay` on a freshly built original, then `load_state_dict`, gives the same network."""
    report: Report


def remove_channels(
    module: nn.Module,
    example: Tensor,
    *,
    sparsity: float | None = None,
    macs: float | None = None,
    scores: Callable[[nn.Module], Mapping[str, Tensor]] | None = None,
    keep: Sequence[str] = (),
    round_to: int = 1,
    allocation: Allocation = "global",
    overrides: Mapping[str, float] | None = None,
    or_most: bool = False,
    shuffle: int | None = None,
) -> Removed:
    """Remove the least important channels of `module`, as few as reach the target.

    Args:
        module: Maps one tensor to one tensor. It is not changed.
        example: Real inputs (N, ...), two or more, on which masked and smaller network must agree.
        sparsity: Fraction of prunable weights to remove, in (0, 1); half of all channels is about 0.75.
        macs: Fraction of the dense MACs to leave, in (0, 1). One of `sparsity` and `macs` is given.
        scores: From the network as its channels will be cut, where an `nn.MultiheadAttention` has become one with
            separate projections, to weight name -> score of each weight, higher = keep. None: magnitude, by which the
            least L1 norms go. See `importance`.
        keep: Globs over modules or weights whose outputs stay whole; the network's output layers always do.
        round_to: Channels left are a multiple of this, or all; a layer with fewer stays whole, which is reported.
        allocation: `global`: units of all layers compete; `uniform`: every layer loses the same fraction.
        overrides: Glob over modules or weights -> fraction of that layer's output channels to remove, outside the
            competition; 0 leaves them whole, the longest match wins. Coupled layers follow.
        or_most: Where the target cannot be reached, remove all that can go instead of refusing.
        shuffle: Seed by which importances are permuted within each group: does it matter which channels go?

    Raises:
        Untraceable: The model cannot be followed, or nothing that was followed can be cut; fall back to a mask.
        UsageError: The target makes no sense or cannot be reached; the message says what can.
    """
    asked = _asked(sparsity, macs)
    ready = prepared(module, example)
    separate, names = ready.module, prunable(ready.module)
    overrides = overrides or {}
    check_overrides(separate, overrides)
    found, verifier = inspected(ready, example, keep)
    require_groups(module, example, found, keep)
    scored = magnitude(Context(separate, names, seed=0)) if scores is None else scores(separate)
    check_scores(separate, scored, names)
    dense = count_macs(separate, example[:1])
    cost = Cost(found.groups, {name: separate.get_parameter(name).shape for name in names}, dense)
    rivals = contest(found.groups, scored, overrides=overrides, round_to=round_to, shuffle=shuffle)
    chosen = rivals.select(_reached(asked, cost), allocation)
    if chosen is None:
        most = rivals.most
        if not or_most or not any(most.values()):
            reached = {"sparsity": cost.sparsity(most), "macs": cost.macs(most)}
            raise UsageError(beyond(asked, **reached, round_to=round_to, skipped=found.skipped | rivals.narrow))
        chosen = most
    verifier = verifier.on(affordable(example, dense.total))
    return _cut(module, separate, example, found, verifier, chosen, asked, dense, found.skipped | rivals.narrow)


def _asked(sparsity: float | None, macs: float | None) -> dict[str, float]:
    given = {name: value for name, value in (("sparsity", sparsity), ("macs", macs)) if value is not None}
    if len(given) != 1:
        raise UsageError(f"expected one target, sparsity or macs, got {' and '.join(given) or 'none'}")
    for name, value in given.items():
        if not 0 < value < 1:
            raise UsageError(f"{name}: expected a fraction above 0 and below 1, got {value}")
    return given


def _reached(asked: Mapping[str, float], cost: Cost) -> Callable[[Mapping[str, Sequence[int]]], bool]:
    """Whether a removal meets the wish."""
    if "sparsity" in asked:
        return lambda removed: cost.sparsity(removed) >= asked["sparsity"] - GRACE
    return lambda removed: cost.macs(removed) <= asked["macs"] + GRACE


def _cut(
    given: nn.Module,
    module: nn.Module,
    example: Tensor,
    found: Preflight,
    verifier: Verifier,
    chosen: Mapping[str, tuple[int, ...]],
    asked: Mapping[str, float],
    dense: Macs,
    skipped: Mapping[str, str],
) -> Removed:
    if fault := verifier.fault(found.groups, chosen):
        raise Untraceable(type(module).__name__, f"a removal that is not what a mask would do: {fault.reason}")
    history = history_of(module, found.groups, chosen)
    smaller = replay(copy.deepcopy(module), history)
    left = count_macs(smaller, example[:1])
    names = prunable(module)
    weights, weights_left = (sum(m.get_parameter(name).numel() for name in names) for m in (module, smaller))
    report = Report(
        asked=asked,
        sparsity=1 - weights_left / weights,
        macs=left.total / dense.total,
        macs_dense=dense.total,
        macs_left=left.total,
        parameters_dense=_parameters(module),
        parameters_left=_parameters(smaller),
        widths={
            group.root: Width(group.width, group.width - group.unit_size * len(chosen[group.root]), group.writers[1:])
            for group in found.groups
        },
        skipped=skipped,
        difference=verifier.difference,
    )
    apart = _apart(given, found.rewritten, history, affordable(example, dense.total))
    if len(apart) < len(found.rewritten):
        smaller = replay(copy.deepcopy(given), [*apart, *history])
    return Removed(smaller, [*apart, *history], report)


def _apart(given: nn.Module, rewritten: History, history: History, example: Tensor) -> History:
    """What of `rewritten` the history needs: attention that loses nothing stays as it was, where that is as good."""
    touched = [str(entry.get("tensor") or entry["module"]) + "." for entry in history]
    needed = [entry for entry in rewritten if any(name.startswith(f"{entry['module']}.") for name in touched)]
    if not needed or len(needed) == len(rewritten):
        return needed
    return rewritten if Verifier(given, example, jitter=True).changed(needed) else needed


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
