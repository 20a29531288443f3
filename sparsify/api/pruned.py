"""`Pruned`: what `prune` gives back, a network and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from sparsify.masks.mask import Mask


@dataclass(frozen=True)
class PruneReport:
    """What was asked for, and what came.

    Attributes:
        pattern: as a recipe writes it.
        criterion: its name.
        allocation: `global`, `uniform`, `erk` or `searched`.
        asked: the sparsity asked for, of the layers that compete; none where the pattern sets it, or of MACs.
        achieved: the sparsity of the layers that compete: those that the pattern fits, without an override of their own
            unless all have one; of channels, which are coupled over the whole network, of all prunable weights.
        sparsity: that of all prunable weights.
        layers: parameter -> achieved sparsity, of a mask; empty for channels.
        skipped: layer -> why it was left as it is.
        metric_dense: what `evaluate` says of the given network; none without it.
        metric: what it says of the pruned one.
        channels: asked and achieved and each layer's width, for channels alone.
        masked_because: why channels are masked, which leaves each as its bias, and not gone; empty where they are
            gone, or never were asked for.
    """

    pattern: str
    criterion: str
    allocation: str
    asked: float | None
    achieved: float
    sparsity: float
    layers: Mapping[str, float]
    skipped: Mapping[str, str]
    metric_dense: float | None = None
    metric: float | None = None
    channels: Mapping[str, Any] | None = None
    masked_because: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Attributes:
        model: a new module; its removed weights are exactly zero, its removed channels gone; masked ones are
            their biases.
        mask: what to hold while it is trained on (`Masked`); of channels, everything that is left.
        report: what was asked for, and what came.
        history: which channels went, now and in every earlier `prune` of the same network, as JSON; empty where none
            ever did. `sparsify.save` keeps it with the weights.
    """

    model: nn.Module
    mask: Mask
    report: PruneReport
    history: Sequence[Any] = field(default=())
