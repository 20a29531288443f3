"""ResNet-20 for CIFAR-sized images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from sparsify.models.initial import kaiming_normal_


@final
class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them (He et al. 2016, figure 2)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut.add_module("conv", nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H / stride, W / stride) of maps (N, channels_in, H, W)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


@final
class ResNet20(nn.Module):
    """Depth 6n + 2 with n = 3: one convolution, three stages of three blocks (16, 32, 64 maps), and the output.

    He et al. 2016, section 4.2, with projection shortcuts (their option B: 1x1 convolution and batch norm where the
    shape changes) as in Frankle et al. 2020 (arXiv 1912.05671): 272,474 parameters at 3x32x32 and 10 classes, the 272K
    of the lottery papers. Their option A, without parameters, has 269,722 and pads channels, which exporters dislike.
    Weights are Kaiming normal over fan_in, batch norm starts as the identity, the output's bias as zero.

    Args:
        channels: Input channels.
        classes: Number of classes.
        generator: Source of the initial weights.
    """

    def __init__(self, channels: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stage1 = _stage(16, 16, stride=1)
        self.stage2 = _stage(16, 32, stride=2)
        self.stage3 = _stage(32, 64, stride=2)
        self.output = nn.Linear(64, classes)
        kaiming_normal_(self, generator, fan="fan_in")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        x = torch.relu(self.bn(self.conv(images)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.output(x.mean(dim=(2, 3)))


def _stage(channels_in: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(channels_in, channels, stride),
        Block(channels, channels, 1),
        Block(channels, channels, 1),
    )
