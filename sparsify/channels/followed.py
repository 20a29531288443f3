"""Whether following a network gave anything to cut; where it did not, whole outputs can still be masked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sparsify.channels.outputs import output_layers
from sparsify.channels.preflight import Preflight, matches
from sparsify.channels.untraceable import Untraceable
from sparsify.models.build import prunable


def require_groups(module: nn.Module, example: Tensor, found: Preflight, keep: Sequence[str]) -> None:
    """Refuse a network of which nothing can be cut though a mask could take outputs of it.

    Args:
        module: The network as it was given.
        example: Inputs (N, ...) that it takes.
        found: Its preflight.
        keep: Globs over modules or weights whose outputs stay whole.

    Raises:
        Untraceable: With the reason of the first layer that a mask could prune.
        UsageError: It cannot be seen which layers give the output.
    """
    if found.groups:
        return
    masked = set(prunable(module)) - output_layers(module, example[:1])
    for row in found.rows:
        if f"{row.module}.weight" in masked and row.width > 1 and not any(matches(row.module, glob) for glob in keep):
            reason = f"one of which no layer can lose any ({row.module}: {row.reason})"
            raise Untraceable(type(module).__name__, reason)
