"""RigL: drop the smallest, grow where the gradient is largest (Evci et al. 2020, arXiv 1911.11134, section 3)."""

from __future__ import annotations

import math

from sparsify.recipe.prune_spec import RiglSpec
from sparsify.train.mask_moves import Move, Prune, Rewire, Span
from sparsify.train.mask_schedules.set import rewiring_steps


def rigl(spec: RiglSpec, span: Span) -> dict[int, Move]:
    """The whole target first, then f_decay(t; α, T_end) = α/2 (1 + cos(t π / T_end)) rewired every ΔT steps."""
    alpha, T_end = spec.fraction, int(spec.until * span.steps)
    moves: dict[int, Move] = {
        step: Rewire(alpha / 2 * (1 + math.cos((step - span.start) * math.pi / T_end)), "gradient")
        for step in rewiring_steps(spec, span)
    }
    return {span.start: Prune(1.0)} | moves
