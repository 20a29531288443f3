"""Calibration data: a few training examples, drawn by seed, that criteria and reconstruction look at."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.seeds import derive_seed

BATCH_SIZE = 64


def calibration_batches(data: Data, count: int, seed: int, batch_size: int = BATCH_SIZE) -> list[tuple[Tensor, Tensor]]:
    """`count` training examples without repetition, in batches; the last batch may be smaller.

    A larger `count` by the same seed begins with the same examples. Validation and test are never looked at, and no
    global random state is touched.

    Args:
        data: Only its training part is read.
        count: Number of examples, at most as many as there are training examples.
        seed: Seed of the draw.
        batch_size: Examples a batch.

    Returns:
        Pairs of inputs (B, ...) and labels (B, ...), on the CPU.

    Raises:
        UsageError: `count` or `batch_size` is below 1, or there are fewer training examples than `count`.
    """
    examples = len(data.train)
    if count < 1 or batch_size < 1:
        raise UsageError(f"calibration: expected at least 1 example a batch and in all, got {batch_size} and {count}")
    if count > examples:
        raise UsageError(
            f"calibration: expected at most the {examples} training examples there are, got {count}; ask for fewer"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "calibration"))
    chosen = torch.randperm(examples, generator=generator)[:count]
    return [(data.train.inputs(part), data.train.labels[part]) for part in chosen.split(batch_size)]
