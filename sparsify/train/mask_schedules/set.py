"""SET, sparse evolutionary training: drop the smallest, grow at random (Mocanu et al. 2018, arXiv 1707.04780).

Weights of both signs are dropped by magnitude together, and grown ones start at zero, as in Evci et al. 2020
(arXiv 1911.11134, section 4), rather than each sign apart and redrawn.
"""

from __future__ import annotations

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import RiglSpec, SetSpec
from sparsify.train.mask_moves import Move, Prune, Rewire, Span

OFTEN = 100  # steps between rewirings: what Evci et al. 2020 use


def evolve(spec: SetSpec, span: Span) -> dict[int, Move]:
    """The whole target first, then the same fraction rewired every `every` steps."""
    moves: dict[int, Move] = {step: Rewire(spec.fraction, "random") for step in rewiring_steps(spec, span)}
    return {span.start: Prune(1.0)} | moves


def rewiring_steps(spec: SetSpec | RiglSpec, span: Span) -> range:
    """Every `every` steps after the first, up to `until` and not with it.

    Raises:
        UsageError: there is none.
    """
    end = int(spec.until * span.steps)
    every = max(1, min(OFTEN, end // 10)) if spec.every is None else span.iterations(spec.every)
    if not 0 < every < end:
        raise UsageError(
            f"mask schedule {spec.name}: expected every to be from one step to below until, step {end} of "
            f"{span.steps}, got {spec.every or 'none'}, {every} steps; lengthen the training, or lower every"
        )
    return range(span.start + every, span.start + end, every)
