"""What is known at the start is refused at the start, not after hours of training.

Called only where something is to be done: what a cached run does not need is imported inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparsify.pipeline.plan import Plan


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
    from sparsify_export.targets import TARGETS
    from sparsify_export.targets.opening import require_export

    for name in targets:
        require_export(TARGETS[name])
    cores_for(threads)
