"""Batches in an order that depends on nothing but the seed and the step, so that training can be entered anywhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sparsify.data.load import Split
from sparsify.recipe.spec import AugmentSpec
from sparsify.seeds import derive_seed


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Optimiser steps that one pass over so many images takes; the last, incomplete batch is left out."""
    return images // min(batch_size, images)


class Batches:
    """The batches of one training, by step.

    Each epoch is a fresh permutation drawn from (seed, epoch); the last, incomplete batch of an epoch is left out.

    Args:
        split: the training images (N, C, H, W) and their labels (N,), resident on the device.
        batch_size: images per step; cut to N where the split is smaller.
        augment: random changes, drawn from (seed, step).
        seed: what the order and the augmentation are drawn from.
    """

    def __init__(self, split: Split, batch_size: int, augment: AugmentSpec, seed: int) -> None:
        self._split, self._augment, self._seed = split, augment, seed
        self._size = min(batch_size, len(split.labels))
        self.per_epoch = steps_per_epoch(len(split.labels), batch_size)
        self._epoch = -1
        self._order: tuple[Tensor, ...] = ()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,) of `step` (0-based)."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
            order = torch.randperm(len(self._split.labels), generator=generator)
            self._order = order.to(self._split.labels.device).split(self._size)
            self._epoch = epoch
        index = self._order[position]
        images = self._split.inputs(index)
        if self._augment.flip or self._augment.crop:
            images = augment(images, self._augment, derive_seed(self._seed, "augment", step))
        return images, self._split.labels.index_select(0, index)


def augment(images: Tensor, spec: AugmentSpec, seed: int) -> Tensor:
    """Mirror and crop a batch (B, C, H, W), each image on its own, as drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    count, _, height, width = images.shape
    if spec.flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if spec.crop:
        padded = functional.pad(images, (spec.crop,) * 4)
        shift = torch.randint(0, 2 * spec.crop + 1, (2, count), generator=generator).to(images.device)
        rows = shift[0][:, None] + torch.arange(height, device=images.device)
        columns = shift[1][:, None] + torch.arange(width, device=images.device)
        batch = torch.arange(count, device=images.device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images.contiguous()
