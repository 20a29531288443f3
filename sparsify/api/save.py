"""`save`: keep a pruned network whose architecture is one's own code."""

from __future__ import annotations

from pathlib import Path

from sparsify.api.masked import unwrapped
from sparsify.api.pruned import Pruned
from sparsify.models.own import save_own


def save(pruned: Pruned, folder: str | Path) -> None:
    """Write a pruned network, as it is now, into `folder`: weights, mask, and which channels went, as JSON.

    Example:
        >>> sparsify.save(pruned, "small")
        >>> again = sparsify.load("small", model=Net())  # in another process; Net is one's own, dense

    A network that was pruned several times is loaded in the same way, from the dense one.

    Args:
        pruned: what `prune` gave, its model perhaps trained on since.
        folder: where; made if it is not there, and what an earlier save left in it is written over.

    Raises:
        UsageError: hooks compute the weights anew, so that what the module holds is not what it runs with.
        InputOutputError: disk full, no permission and the like.
    """
    save_own(Path(folder), unwrapped(pruned.model), pruned.mask, pruned.history, pruned.report.to_json())
