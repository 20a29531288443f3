"""Searched allocation, from a target to each layer's sparsity: the layers measured one by one, then shared out."""

from __future__ import annotations

from collections.abc import Mapping

from sparsify.api.sensitivity import SPARSITIES, Evaluate, sensitivity
from sparsify.criteria.context import Context
from sparsify.criteria.registry import Criterion
from sparsify.masks.allocate import check_sparsity
from sparsify.masks.overrides import override_of
from sparsify.recipe.pattern import Pattern

# Measured beside the target, so that layers can be spared or pruned harder.
HARDEST = 0.99


def searched_shares(
    context: Context,
    evaluate: Evaluate,
    *,
    pattern: Pattern,
    sparsity: float | None,
    criterion: str | Criterion,
    overrides: Mapping[str, float],
) -> dict[str, float]:
    """Parameter -> sparsity for the least sum of measured drops; layers with an override of their own are left out.

    Args:
        context: the network, which is not changed, what the criterion looks at, and who is told of the progress.
        evaluate: a network -> its metric, higher is better.
        pattern: one whose sparsity is free.
        sparsity: fraction to remove of all layers that are measured, together.
        criterion: what scores a weight.
        overrides: glob over layers or their weights -> sparsity of its own.

    Raises:
        UsageError: the sparsity makes no sense, or a measurement is not finite.
    """
    target = check_sparsity(sparsity)
    table = sensitivity(
        context.model,
        evaluate,
        sparsities=[*SPARSITIES, *_around(target)],
        pattern=pattern,
        criterion=criterion,
        batches=context.batches,
        loss=context.loss,
        seed=context.seed,
        names=tuple(name for name in context.names if override_of(name, overrides) is None),
        progress=context.progress,
    )
    return table.allocate(target)


def _around(target: float) -> tuple[float, ...]:
    """The target, and one beyond it, halfway to nothing left."""
    return tuple(each for each in (target, min((1 + target) / 2, max(HARDEST, target))) if each > 0)
