"""What is known at the start is refused at the start, not after hours of training.

Called only where something is to be done: what a cached run does not need is imported inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparsify.machine import vector_width
from sparsify.pipeline.plan import Plan
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.report.sentence import zeros_take_time
from sparsify_export.targets import TARGETS, skips_zeros


def preflight(plan: Plan, *, exports: bool) -> None:
    """Check that what `plan` will need at its end is here.

    Args:
        plan: the run's plan.
        exports: whether the run goes on to export and latency.

    Raises:
        UnavailableError: a target cannot be exported to on this machine; the message says what is missing.
        UsageError: latency is asked for on more threads than there are cores.
    """
    if exports:
        preflight_targets(plan.recipe.export.targets, plan.recipe.latency.threads)


def preflight_targets(targets: Sequence[str], threads: int) -> None:
    """Check that these targets can be exported to here and timed on so many threads; raises as `preflight`."""
    from sparsify_export.latency import cores_for
    from sparsify_export.targets.opening import require_export

    for name in targets:
        require_export(TARGETS[name])
    cores_for(threads)


def doubts(recipe: PruneRecipe) -> list[str]:
    """What a prune recipe asks for that cannot be expected, or costs what a word would save; each with its mend."""
    return [doubt for doubt in (idle_search(recipe), uneven_widths(recipe)) if doubt]


def uneven_widths(recipe: PruneRecipe) -> str:
    """Why fewer channels may save less time than MACs; empty where neither is asked for, or round_to is named."""
    removal, target = recipe.removal, recipe.target
    wanted = target.macs is not None or target.latency_ms is not None or target.speedup is not None
    if not wanted or removal.pattern.kind != "channel" or "round_to" in removal.model_fields_set:
        return ""
    width = vector_width()
    return (
        f"removal.round_to: left out, layers keep any number of channels, and this processor computes {width} at a "
        f"time, so that odd widths can save less time than MACs, or none; --round-to {width} (removal.round_to: "
        f"{width}) keeps multiples of {width}, and 1 says that any number will do"
    )


def idle_search(recipe: PruneRecipe) -> str:
    """Why a search for time cannot be expected to find any, and the mend; empty where it can.

    It is no refusal: what counts is measured, and a target may be met by the dense network already.
    """
    target, runtime, pattern = recipe.target, recipe.export.targets[0], recipe.removal.pattern
    timed = target.latency_ms is not None or target.speedup is not None
    if not timed or not zeros_take_time(str(pattern), runtime):
        return ""
    sparse = [name for name in TARGETS if skips_zeros(name)]
    mend = f", or a runtime with sparse kernels ({', '.join(sparse)})" if sparse else ""
    return (
        f"target {target.kind}: {pattern} leaves zeros in place, which {runtime} multiplies like any other number, so "
        f"that no time is saved at any sparsity; choose the pattern channel, which removes the work{mend}"
    )
