"""Initial weights, drawn layer by layer in module order from one private generator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn


def glorot_normal_(model: nn.Module, generator: torch.Generator) -> None:
    """Weights ~ N(0, 2 / (fan_in + fan_out)), biases zero, in place.

    Glorot & Bengio 2010, with the Gaussian that Frankle & Carbin 2019 (figure 2) use. It is not truncated.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_normal_(module.weight, generator=generator)
            _zero_bias_(module)


def kaiming_normal_(model: nn.Module, generator: torch.Generator, *, fan: Literal["fan_in", "fan_out"]) -> None:
    """Convolutions and linear layers ~ N(0, 2 / fan), biases zero; batch norm the identity. In place.

    He et al. 2015, arXiv 1502.01852, equation 10 (`fan_in`) or 14 (`fan_out`).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu", generator=generator)
            _zero_bias_(module)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _zero_bias_(module: nn.Linear | nn.Conv2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
