"""Targets without labels: what the dense network says of the same inputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sparsify.data.load import Data, Split
from sparsify.train.evaluate import fitting_batch_size


def dense_targets(dense: nn.Module, split: Split, batch_size: int | None = None) -> Tensor:
    """The outputs of `dense` in eval mode, (N, ...) on the CPU; its mode is put back.

    Args:
        dense: the network to be held against.
        split: its inputs are moved to the network's device batch by batch; its labels are not looked at.
        batch_size: inputs per forward pass; None for what fits in memory.
    """
    device, training = next(dense.parameters()).device, dense.training
    dense.eval()
    with torch.no_grad():
        size = batch_size or fitting_batch_size(split.images)
        outputs = [dense(inputs.to(device)).cpu() for inputs, _ in split.batches(size)]
    dense.train(training)
    return torch.cat(outputs)


def without_labels(data: Data, dense: nn.Module, batch_size: int | None = None) -> Data:
    """`data` with the dense network's outputs for labels, in every split: for the tasks `agreement` and `embedding`.

    They are those of the images as they are: train without augmentation, or with a distillation of weight 1.
    """

    def relabelled(split: Split) -> Split:
        return replace(split, labels=dense_targets(dense, split, batch_size)) if len(split) else split

    return replace(
        data, train=relabelled(data.train), validation=relabelled(data.validation), test=relabelled(data.test)
    )
