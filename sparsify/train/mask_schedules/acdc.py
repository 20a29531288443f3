"""AC/DC: alternating compressed and decompressed training (Peste et al. 2021, arXiv 2106.12379, section 3)."""

from __future__ import annotations

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import AcdcSpec
from sparsify.train.mask_moves import Move, Prune, Restore, Span


def acdc(spec: AcdcSpec, span: Span) -> dict[int, Move]:
    """Dense for `warmup`; then sparse and dense by turns of `phase`; sparse for at least `final` at the end.

    Each sparse phase chooses its mask anew among all weights.
    """
    phase, final = (max(span.iterations(step), 1) for step in (spec.phase, spec.final))
    t = span.start + span.iterations(spec.warmup)
    if t + final > span.total:
        raise UsageError(
            f"mask schedule acdc: expected room for warmup and the final sparse phase, {t + final - span.start} steps, "
            f"got {span.steps}; lengthen the training, or shorten final"
        )
    moves: dict[int, Move] = {t: Prune(1.0)}
    while t + 2 * phase + final <= span.total:
        moves[t + phase] = Restore()
        t += 2 * phase
        moves[t] = Prune(1.0)
    return moves
