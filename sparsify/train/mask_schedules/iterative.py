"""Iterative: k rounds of pruning and training (Han et al. 2015, arXiv 1506.02626, section 3)."""

from __future__ import annotations

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import IterativeSpec
from sparsify.train.mask_moves import Move, Prune, Span


def iterative(spec: IterativeSpec, span: Span) -> dict[int, Move]:
    """Round r of k begins at step (r-1)/k of the span and leaves density d^(r/k), d that of the target.

    So each round removes the same fraction of the weights that remain.
    """
    k, s = spec.rounds, span.sparsity
    if span.steps < k:
        raise UsageError(
            f"mask schedule iterative: expected at least one step a round, got {span.steps} steps for {k} rounds; "
            "lengthen the training, or lower rounds"
        )
    shares = [(1 - (1 - s) ** (r / k)) / s if s > 0 else r / k for r in range(1, k)] + [1.0]
    return {span.start + r * span.steps // k: Prune(share) for r, share in enumerate(shares)}
