"""Fully connected networks: LeNet-300-100, and `mlp:` with any widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from sparsify.models.initial import glorot_normal_


@final
class Mlp(nn.Module):
    """Linear layers `hidden1`, `hidden2`, ..., `output` with ReLU between.

    LeNet-300-100 (LeCun et al. 1998; Frankle & Carbin 2019, figure 2) is `Mlp((784, 300, 100, 10))`: 266,610 parameters
    with its biases.

    Args:
        widths: Input size, hidden sizes, number of classes.
        generator: Source of the initial weights, which are Glorot normal with zero biases.
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        names = [f"hidden{i + 1}" for i in range(len(widths) - 2)] + ["output"]
        for name, fan_in, fan_out in zip(names, widths[:-1], widths[1:], strict=True):
            self.add_module(name, nn.Linear(fan_in, fan_out))
        glorot_normal_(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        *hidden, output = self.children()
        x = images.flatten(1)
        for layer in hidden:
            x = torch.relu(layer(x))
        return output(x)
