"""Tickets as an export finds them in a run folder, and images to hold its outputs against."""

from __future__ import annotations

from pathlib import Path

import torch

from sparsify.data.load import Data, Split
from sparsify.lottery.network import Network
from sparsify.store.weights import save_tensors


def write_ticket(folder: Path, network: Network, sparsity: float) -> Path:
    """What an export reads of a ticket: the network, and trained weights whose removed ones are zero."""
    folder.mkdir()
    network.save(folder)
    weights = network.build(seed=0).state_dict()
    for value in weights.values():
        if value.ndim == 2:
            value[value.abs() < value.abs().flatten().quantile(sparsity)] = 0
    save_tensors(folder / "weights.safetensors", weights)
    return folder


def images(shape: tuple[int, int, int], *, classes: int, count: int) -> Data:
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    split = Split(noise, torch.zeros(count, dtype=torch.int64))
    return Data(split, split, split, shape, classes)
