"""One removal: from a recipe's words to a mask on the network, or to a network with fewer channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sparsify.api.choice import apply_choice, choose, default_allocation, score
from sparsify.api.searched import searched_shares
from sparsify.api.sensitivity import Evaluate
from sparsify.channels.remove import Removed as Cut
from sparsify.channels.remove import remove_channels
from sparsify.channels.untraceable import Untraceable
from sparsify.criteria.context import Context
from sparsify.errors import UsageError
from sparsify.lottery.controls import shuffled_mask
from sparsify.masks.mask import Mask
from sparsify.masks.outputs import select_outputs
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.models.network import Network
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
    choice = choose(context, rule, removal.criterion)
    if removal.shuffled:
        choice = replace(choice, mask=shuffled_mask(choice.mask, derive_seed(context.seed, "shuffled")))
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
    """The network without the channels that score lowest, physically smaller."""
    rule = rule_of(removal, context.model, sparsity)
    if rule.allocation == "erk":
        raise UsageError("allocation: expected global or uniform for channels, got erk; ERK spreads single weights")
    scores = score(context, removal.criterion, rule)
    try:
        cut = remove_channels(
            context.model,
            context.batches[0][0] if context.batches else network.example(),
            sparsity=sparsity,
            macs=macs,
            scores=scores,
            round_to=removal.round_to,
            allocation=rule.allocation,
            overrides=removal.overrides,
            or_most=or_most,
        )
    except Untraceable as error:
        return _mask_channels(context, network, scores, sparsity, str(error))
    shrunk = replace(network, channels=[*network.channels, *cut.history])
    report = cut.report.to_json()
    report["skipped"] |= _unseen(context.model, cut)
    return Removed(shrunk, Mask.dense(cut.module, prunable(cut.module)), cut.module, report)


def _unseen(model: nn.Module, cut: Cut) -> dict[str, str]:
    """Matrices that lost nothing and of which preflight, which looks at layers, has not said so."""
    touched = {entry.get("tensor") for entry in cut.history}
    return {
        name: why
        for name, why in unprunable(model).items()
        if name not in touched and name.rpartition(".")[0] not in cut.report.skipped
    }


def _mask_channels(
    context: Context, network: Network, scores: Mapping[str, Tensor], sparsity: float | None, why: str
) -> Removed:
    """Where a network cannot be followed its channels are masked, not removed, and the report says so."""
    if sparsity is None:
        raise UsageError(f"{why}; its channels can only be masked, which leaves the MACs: ask for a --sparsity")
    last = context.names[-1]
    mask = select_outputs(scores, sparsity, keep=(last,))
    mask.apply_(context.model)
    skipped = {last: "taken for the output layer, being the last"}
    report = {"skipped": skipped, "sparsity": mask.sparsity, "masked_because": why}
    return Removed(network, mask, context.model, report)
