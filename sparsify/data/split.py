"""Which image is for training, which for validation, which for test: drawn once from the split's own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sparsify.errors import UsageError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Indices:
    """Positions among a source's training images, each list ascending; together they are all of them, once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def draw_split(name: str, images: int, *, validation: float, test: float, seed: int) -> Indices:
    """Share out `images` images at random.

    The counts are exact: `round(test * images)` for test, then `round(validation * rest)` for validation, then what is
    left for training. A share of 0 is for a part that the source brings along.

    Args:
        name: What errors call the source.
        images: Number of images to share out.
        validation: Share of what test leaves, in [0, 1).
        test: Share of all, in [0, 1).
        seed: Seed of the private generator.

    Raises:
        UsageError: A part that was asked for would be empty, or the seed does not fit in 63 bits.
    """
    if seed > MAX_SEED:
        raise UsageError(f"data.split_seed: expected at most {MAX_SEED}, got {seed}")
    n_test = _count(name, "test", test, images)
    n_validation = _count(name, "validation", validation, images - n_test)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed)).numpy()
    ends = (n_test, n_test + n_validation)
    return Indices(
        test=np.sort(order[: ends[0]]), validation=np.sort(order[ends[0] : ends[1]]), train=np.sort(order[ends[1] :])
    )


def _count(name: str, part: str, share: float, images: int) -> int:
    """How many of `images` a share is; refused if it or the rest is none."""
    if share == 0:
        return 0
    count = round(share * images)
    if not 0 < count < images:
        raise UsageError(
            f"{name}: data.{part} = {share:g} of {images} images is {count}, which leaves {images - count}; "
            f"expected at least one on each side: change data.{part} or bring more images"
        )
    return count
