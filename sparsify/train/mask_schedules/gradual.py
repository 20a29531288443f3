"""Gradual: sparsity rises along a cubic, fast at first while much is redundant (Zhu & Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import GradualSpec
from sparsify.train.mask_moves import Move, Prune, Span


def gradual(spec: GradualSpec, span: Span) -> dict[int, Move]:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))^3 at t = t_0, t_0 + Δt, ..., t_0 + n Δt (equation 1).

    Δt is rounded to whole steps at each t; the sparsities are those of the exact one.
    """
    n, s_i, s_f = spec.prunings, spec.initial, span.sparsity
    t_0 = span.start + span.iterations(spec.begin)
    length = span.start + int(spec.until * span.steps) - t_0
    if length < n:
        raise UsageError(
            f"mask schedule gradual: expected at least {n} steps from begin to until for {n} prunings, got "
            f"{max(length, 0)} of {span.steps} steps; lengthen the training, or lower prunings"
        )
    if s_i > 0 and s_i >= s_f:
        raise UsageError(
            f"mask schedule gradual: expected an initial sparsity below the target's {s_f:g}, got {s_i:g}; lower it"
        )
    start = 1 - s_i / s_f if s_i > 0 else 1.0
    return {t_0 + k * length // n: Prune(1 - start * (1 - k / n) ** 3) for k in range(n + 1)}
