"""MobileNetV2 with torchvision's parameter names, so that its published weights load strictly without torchvision."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from sparsify.models.initial import kaiming_normal_

# Sandler et al. 2018, table 2: expansion t, output channels c, repeats n, stride s of the first repeat.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
DROPOUT = 0.2


@final
class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise by 3x3, project linearly by 1x1; added to the input where shapes agree.

    Sandler et al. 2018, section 3.3 and table 1.
    """

    def __init__(self, channels_in: int, channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        expand = [_conv_bn_relu6(channels_in, inner, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu6(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.is_residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H / stride, W / stride) of maps (N, channels_in, H, W)."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


@final
class MobileNetV2(nn.Module):
    """Width 1.0: `features.0` to `features.18`, global average pooling, and `classifier.1` as the output layer.

    3,504,872 parameters at three channels and 1000 classes. Module names and shapes are torchvision's, which is why
    the last layer is not called `output` as elsewhere. The paper gives no initial distribution; torchvision's is used:
    convolutions Kaiming normal over fan_out, the classifier N(0, 0.01^2), biases zero.

    Args:
        channels: Input channels, 1 or 3.
        classes: Number of classes.
        generator: Source of the initial weights.
    """

    def __init__(self, channels: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv_bn_relu6(channels, STEM_CHANNELS, 3, stride=2)]
        channels_in = STEM_CHANNELS
        for t, c, n, s in BOTTLENECKS:
            for i in range(n):
                features.append(InvertedResidual(channels_in, c, stride=s if i == 0 else 1, expansion=t))
                channels_in = c
        features.append(_conv_bn_relu6(channels_in, HEAD_CHANNELS, 1))
        classifier = nn.Linear(HEAD_CHANNELS, classes)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), classifier)
        kaiming_normal_(self.features, generator, fan="fan_out")
        nn.init.normal_(classifier.weight, 0.0, 0.01, generator=generator)
        nn.init.zeros_(classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def _conv_bn_relu6(channels_in: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(
        channels_in, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU6())
