"""LeNet-5, in the form that papers on pruning count."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.models.initial import glorot_normal_


@final
class LeNet5(nn.Module):
    """Two 5x5 convolutions (20, 50) each pooled by 2, a hidden layer of 500, and the output.

    LeCun et al. 1998 had 6 and 16 maps and about 60K parameters. What the pruning literature calls LeNet-5 (Han et al.
    2015, table 1: 431K) is this wider one, with 431,080 parameters at 1x28x28 and 10 classes; like its first public
    implementation it has no ReLU after the convolutions, where max-pooling is the non-linearity.

    Args:
        input_shape: Channels, height and width; at least 16 pixels a side.
        classes: Number of classes.
        generator: Source of the initial weights, which are Glorot normal with zero biases.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * _side_after(height) * _side_after(width), 500)
        self.output = nn.Linear(500, classes)
        glorot_normal_(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        x = F.max_pool2d(self.conv1(images), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.output(x)


def _side_after(side: int) -> int:
    """Pixels that are left of a side after both convolutions and poolings."""
    return ((side - 4) // 2 - 4) // 2
