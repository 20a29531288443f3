"""Learning-rate schedules: a factor of the peak rate for each step, so that any step can be entered directly."""

from __future__ import annotations

import math

from sparsify.recipe.spec import ScheduleSpec


def lr_factor(spec: ScheduleSpec, step: int, *, total: int, per_epoch: int) -> float:
    """Factor of the peak learning rate at `step` (0-based) of `total` steps.

    Warm-up rises linearly and reaches 1 at its last step (Goyal et al. 2017, arXiv 1706.02677, section 2.2);
    the shape after it runs over the steps that remain.
    """
    warmup = spec.warmup.iterations(per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if spec.name == "multistep":
        return spec.gamma ** sum(step >= milestone.iterations(per_epoch) for milestone in spec.milestones)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    if spec.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0 - progress if spec.name == "linear" else 1.0
