"""One-shot: the whole target before the first step (Han et al. 2015, arXiv 1506.02626)."""

from __future__ import annotations

from sparsify.recipe.prune_spec import OneShotSpec
from sparsify.train.mask_moves import Move, Prune, Span


def one_shot(spec: OneShotSpec, span: Span) -> dict[int, Move]:
    """One pruning."""
    del spec
    return {span.start: Prune(1.0)}
