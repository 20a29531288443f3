"""`Ticket`: a mask, the weights it is rewound to, and what training made of them; a folder of safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from sparsify.errors import CorruptError
from sparsify.lottery.network import Network
from sparsify.masks.mask import Mask
from sparsify.store.atomic import write_json
from sparsify.store.layout import WEIGHTS
from sparsify.store.network_weights import load_weights
from sparsify.store.weights import load_tensors, save_tensors
from sparsify.train.history import History


@dataclass(frozen=True)
class Ticket:
    """A trained subnetwork in a folder; the dense network is the ticket of level 0, whose mask keeps all."""

    folder: Path

    MASK: ClassVar[str] = "mask.safetensors"
    REWIND: ClassVar[str] = "rewind.safetensors"
    WEIGHTS: ClassVar[str] = WEIGHTS
    HISTORY: ClassVar[str] = "history.json"

    @cached_property
    def network(self) -> Network:
        """What builds the module."""
        return Network.load(self.folder)

    @cached_property
    def mask(self) -> Mask:
        """Which weights are kept."""
        return Mask.load(self.folder / self.MASK)

    @cached_property
    def rewind_weights(self) -> dict[str, Tensor]:
        """The full state dict that training began from; removed weights are zero."""
        return load_tensors(self.folder / self.REWIND)

    @cached_property
    def trained_weights(self) -> dict[str, Tensor]:
        """The full state dict after training; removed weights are zero."""
        return load_weights(self.folder)

    @cached_property
    def history(self) -> dict[str, Any]:
        """The curve of training (`History.to_json`)."""
        path = self.folder / self.HISTORY
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CorruptError(f"{path}: expected a training history, got {error!r}") from error

    def module(self, *, allow_import: tuple[str, ...] = ()) -> nn.Module:
        """The trained module, in eval mode; `allow_import` as `Network.build` takes it."""
        return self.network.build(weights=self.trained_weights, allow_import=allow_import).eval()


def save_ticket(
    folder: Path,
    *,
    network: Network,
    mask: Mask,
    rewind: dict[str, Tensor],
    trained: nn.Module,
    history: History,
) -> None:
    """Write a ticket's files into `folder`, which exists."""
    network.save(folder)
    mask.save(folder / Ticket.MASK)
    save_tensors(folder / Ticket.REWIND, rewind)
    save_tensors(folder / Ticket.WEIGHTS, trained.state_dict())
    write_json(folder / Ticket.HISTORY, history.to_json())
