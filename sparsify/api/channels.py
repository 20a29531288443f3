"""Channels by a criterion: removed for good, or, where the network cannot be followed, their weights held at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from torch import Tensor, is_tensor, nn
from torch.utils._pytree import tree_leaves

from sparsify.api.choice import score
from sparsify.channels.mask import mask_channels
from sparsify.channels.reach import only_masked
from sparsify.channels.remove import remove_channels
from sparsify.channels.select import Allocation
from sparsify.channels.untraceable import Untraceable
from sparsify.criteria.context import Context
from sparsify.criteria.registry import SOLVERS, Criterion
from sparsify.criteria.untouched import device_of, untouched
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.models.history import History
from sparsify.recipe.pattern import Pattern
from sparsify.train.removal import Removal


@dataclass(frozen=True)
class FewerChannels:
    """A network with fewer channels.

    Attributes:
        module: a new, smaller one; or the one given, in which a masked channel is its bias, whatever the input.
        mask: everything that is left; or the weights that are not zero.
        history: what `replay` cuts again; empty for a mask.
        report: asked and achieved, widths, what was skipped and why, as JSON values.
        masked_because: why channels are masked and not gone; empty where they are gone.
    """

    module: nn.Module
    mask: Mask
    history: History
    report: Mapping[str, Any]
    masked_because: str = ""


class _How(TypedDict):
    """What a removal and a mask of channels are told alike; see `remove_channels`."""

    keep: Sequence[str]
    round_to: int
    allocation: Allocation
    overrides: Mapping[str, float]
    or_most: bool
    shuffle: int | None


def prune_channels(
    context: Context,
    example: Tensor | None,
    *,
    sparsity: float | None,
    macs: float | None,
    criterion: str | Criterion,
    allocation: str,
    overrides: Mapping[str, float],
    keep: Sequence[str] = (),
    round_to: int = 1,
    or_most: bool = False,
    shuffle: int | None = None,
) -> FewerChannels:
    """The network of `context` without the channels that score lowest.

    The arguments are those of `channels.remove.remove_channels`; `example` are real inputs (N, ...), on
    any device.

    Raises:
        UsageError: the parts do not fit each other or the network; the MACs of one that cannot be followed stay.
    """
    if allocation not in ("global", "uniform"):
        raise UsageError(
            f"allocation: expected global or uniform for channels, got {allocation}, which spreads single weights"
        )
    if isinstance(criterion, str) and criterion in SOLVERS:
        raise UsageError(f"criterion: expected one that scores weights for channels, got {criterion}, which solves")
    if example is None:
        raise UsageError("batches: expected real inputs to check the smaller network on, got none; give a batch")
    example = example.to(device_of(context.model))
    removal = Removal(Pattern("channel"), sparsity, axes=input_axes(context.model))

    def scores(module: nn.Module) -> Mapping[str, Tensor]:
        return score(replace(context, model=module, names=prunable(module)), criterion, removal)

    how = _How(
        keep=keep,
        round_to=round_to,
        allocation="global" if allocation == "global" else "uniform",
        overrides=overrides,
        or_most=or_most,
        shuffle=shuffle,
    )
    try:
        cut = remove_channels(context.model, example, sparsity=sparsity, macs=macs, scores=scores, **how)
    except Untraceable as error:
        why = str(error)
    else:
        whole = Mask.dense(cut.module, prunable(cut.module))
        return FewerChannels(cut.module, whole, cut.history, cut.report.to_json())
    if sparsity is None:
        raise UsageError(only_masked(why))
    masked = mask_channels(context.model, example, sparsity=sparsity, scores=scores(context.model), **how)
    finite = _finite(context.model, example)
    masked.mask.apply_(context.model)
    if finite and not _finite(context.model, example):
        raise UsageError(
            f"{type(context.model).__name__}: expected outputs whose weights can be zero, got none finite then: it "
            "divides by what it computes from its weights; prune it with the pattern unstructured, n:m or block"
        )
    report = masked.to_json()
    report["skipped"] |= unprunable(context.model)
    return FewerChannels(context.model, masked.mask, [], report, why)


def _finite(module: nn.Module, example: Tensor) -> bool:
    """Whether everything that the network returns is finite."""
    with torch.no_grad(), untouched(module) as call:
        return all(bool(torch.isfinite(leaf).all()) for leaf in tree_leaves(call({}, example)) if is_tensor(leaf))
