"""Conv-2, Conv-4 and Conv-6, the scaled-down VGGs of the lottery ticket paper."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.models.initial import glorot_normal_

HIDDEN = 256


@final
class Conv(nn.Module):
    """Pairs of 3x3 convolutions (64, 128, 256 maps), each pair max-pooled by 2, then 256, 256, and the output.

    Frankle & Carbin 2019, figure 2. At 3x32x32 and 10 classes: Conv-2 4,301,642 parameters (the paper's table: 4.3M),
    Conv-4 2,425,930 (2.4M), Conv-6 2,262,602, where the table says 1.7M: the layers that the same table lists add up
    to 2.26M, and those layers are what is built here.

    Args:
        depth: Number of convolutions: 2, 4 or 6.
        input_shape: Channels, height and width; at least 2, 4 or 8 pixels a side.
        classes: Number of classes.
        generator: Source of the initial weights, which are Glorot normal with zero biases.
    """

    def __init__(self, depth: int, input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = input_shape
        for i in range(depth):
            maps = 64 << (i // 2)
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, maps, 3, padding=1))
            channels = maps
        pools = depth // 2
        self.fc1 = nn.Linear(channels * (height >> pools) * (width >> pools), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, classes)
        glorot_normal_(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        x = images
        convolutions = [child for child in self.children() if isinstance(child, nn.Conv2d)]
        for i, convolution in enumerate(convolutions):
            x = torch.relu(convolution(x))
            if i % 2 == 1:
                x = F.max_pool2d(x, 2)
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        return self.output(x)
