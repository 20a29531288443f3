"""One removal: from a recipe's words to a mask on the network, or to a network with fewer channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sparsify.api.channels import prune_channels
from sparsify.api.choice import apply_choice, choose, default_allocation, planned
from sparsify.api.preflight import PreflightReport, preflight
from sparsify.api.searched import searched_shares
from sparsify.api.sensitivity import Evaluate
from sparsify.criteria.context import Context
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.overrides import override_of
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.models.network import Network
from sparsify.pipeline.prune_verdict import CLOSE
from sparsify.recipe.prune_recipe import RemovalSpec
from sparsify.seeds import derive_seed
from sparsify.train.removal import Removal


@dataclass(frozen=True)
class Removed:
    """A pruned network.

    Attributes:
        network: what builds it again.
        mask: what is kept; everything, where channels were removed.
        module: the network itself.
        report: what was left alone and why, as JSON values.
    """

    network: Network
    mask: Mask
    module: nn.Module
    report: dict[str, Any]


def survey(
    module: nn.Module,
    example: Tensor,
    removal: RemovalSpec,
    *,
    sparsity: float | None,
    macs: float | None,
    or_most: bool = False,
) -> tuple[PreflightReport, str]:
    """What of `module` can be pruned, and why `remove` would refuse what is asked for; empty where it would not.

    The arguments are those of `remove`, with real inputs; nothing is scored, and nothing changed.

    Raises:
        UsageError: an override matches no layer.
    """
    found = preflight(module, example, pattern=removal.pattern, overrides=removal.overrides, round_to=removal.round_to)
    if removal.pattern.kind == "channel":
        asked = {name: value for name, value in (("sparsity", sparsity), ("macs", macs)) if value is not None}
        return found, found.beyond({} if or_most else asked, round_to=removal.round_to)
    try:
        return found, _all_decided(module, rule_of(removal, module, sparsity))
    except UsageError as error:
        return found, str(error)


def _all_decided(module: nn.Module, rule: Removal) -> str:
    """Why the sparsity of a mask cannot be had where every layer has one of its own; empty where it can."""
    weights = {name: module.get_parameter(name) for name in prunable(module)}
    todo = planned(weights, rule)
    if rule.pattern.sparsity is not None or any(override_of(name, rule.overrides) is None for name in todo.names):
        return ""
    unit = rule.pattern.rows * rule.pattern.cols if rule.pattern.kind == "block" else 1
    total = sum(weights[name].numel() for name in todo.names)
    own = 1 - sum(group.kept for group in todo.groups) * unit / total
    if own >= rule.target - CLOSE:
        return ""
    return (
        f"sparsity: asked for {rule.target:g}, but every layer has one of its own, and they come to {own:.4g}; ask for "
        "that, or leave a layer without"
    )


def remove(
    context: Context,
    network: Network,
    removal: RemovalSpec,
    *,
    sparsity: float | None,
    macs: float | None,
    or_most: bool = False,
    evaluate: Evaluate | None = None,
) -> Removed:
    """Prune `context.model`, which masks change in place, as `removal` says.

    Args:
        context: the network, its prunable weights, and what the criterion looks at.
        network: what builds it again.
        removal: pattern, criterion and the rest.
        sparsity: fraction of the prunable weights to remove.
        macs: fraction of the MACs that may remain, for channels.
        or_most: of channels, take the most that can go where that is less than asked.
        evaluate: a network -> its metric, higher is better; for a searched allocation.

    Raises:
        UsageError: the parts do not fit each other or the network.
    """
    if removal.pattern.kind == "channel":
        return _remove_channels(context, network, removal, sparsity, macs, or_most=or_most)
    rule = rule_of(removal, context.model, sparsity)
    if removal.allocation == "searched":
        assert evaluate is not None
        rule = replace(rule, overrides={**rule.overrides, **_searched(context, rule, removal.criterion, evaluate)})
    choice = choose(context, rule, removal.criterion, shuffle=_shuffle(context, removal))
    apply_choice(context.model, choice)
    emptied = [name for name, kept in choice.mask.layer_kept.items() if not kept]
    skipped = {**choice.skipped, **unprunable(context.model)}
    return Removed(network, choice.mask, context.model, {"skipped": skipped, "emptied": emptied})


def rule_of(removal: RemovalSpec, module: nn.Module, sparsity: float | None) -> Removal:
    """The recipe's removal as training and selection take it; `auto` becomes what the criterion's scores allow.

    What is searched for comes as overrides, so that there nothing is left to share.
    """
    asked = removal.allocation
    allocation = (
        default_allocation(removal.criterion) if asked == "auto" else "uniform" if asked == "searched" else asked
    )
    return Removal(removal.pattern, sparsity, allocation, removal.overrides, input_axes(module))


def _shuffle(context: Context, removal: RemovalSpec) -> int | None:
    """The seed of a shuffled choice; None where the choice is the criterion's."""
    return derive_seed(context.seed, "shuffled") if removal.shuffled else None


def _searched(context: Context, rule: Removal, criterion: str, evaluate: Evaluate) -> dict[str, float]:
    return searched_shares(
        context,
        evaluate,
        pattern=rule.pattern,
        sparsity=rule.sparsity,
        criterion=criterion,
        overrides=rule.overrides,
    )


def _remove_channels(
    context: Context,
    network: Network,
    removal: RemovalSpec,
    sparsity: float | None,
    macs: float | None,
    *,
    or_most: bool,
) -> Removed:
    """The network without the channels that score lowest, physically smaller where it can be followed."""
    fewer = prune_channels(
        context,
        context.batches[0][0] if context.batches else network.example(),
        sparsity=sparsity,
        macs=macs,
        criterion=removal.criterion,
        allocation=rule_of(removal, context.model, sparsity).allocation,
        overrides=removal.overrides,
        round_to=removal.round_to,
        or_most=or_most,
        shuffle=_shuffle(context, removal),
    )
    report = dict(fewer.report)
    if fewer.masked_because:
        report["masked_because"] = fewer.masked_because
    shrunk = replace(network, channels=[*network.channels, *fewer.history])
    return Removed(shrunk, fewer.mask, fewer.module, report)
