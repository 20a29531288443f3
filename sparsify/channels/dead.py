"""Which channels of a network are dead: nobody reads them, or they say the same nothing whatever goes in.

A *group* is what must be cut together for channel i of its first layer to go: the layers that write the channel
(producers), the norms it passes, the layers that read it (readers). Torch-pruning's dependency graph finds the groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Channels = Mapping[int, tuple[int, ...]]
"""For each channel of a group's first layer, where it lies in another member."""


@dataclass(frozen=True)
class Group:
    """Layers that share channels: `root` and, by name, where each of its `width` channels lies in the others."""

    root: str
    width: int
    producers: Mapping[str, Channels]
    norms: Mapping[str, Channels]
    readers: Mapping[str, Channels]
    obstacle: str = ""
    """Why this group is left alone; empty where it may be cut."""


@dataclass(frozen=True)
class Dead:
    """Dead channels of one group, by how sure that is before trying."""

    exact: tuple[int, ...] = field(default=())
    """Unread, or exactly 0 on arrival: cutting them changes nothing if what follows maps 0 to 0."""
    if_rectified: tuple[int, ...] = field(default=())
    """A constant below 0 on arrival: dead where a ReLU follows."""


def dead_channels(group: Group, layers: Mapping[str, nn.Module]) -> Dead:
    """The dead channels of `group`; one channel is always left, because no layer can have none."""
    if group.obstacle or not group.readers:
        return Dead()
    exact: list[int] = []
    negative: list[int] = []
    for channel in range(group.width):
        constant = _constant(group, layers, channel)
        if _unread(group, layers, channel) or constant == 0:
            exact.append(channel)
        elif constant is not None and constant < 0:
            negative.append(channel)
    if len(exact) == group.width:
        exact = exact[1:]
    if negative and len(exact) + len(negative) == group.width:
        negative = negative[1:]
    return Dead(tuple(exact), tuple(negative))


def _unread(group: Group, layers: Mapping[str, nn.Module], channel: int) -> bool:
    """True where every reader multiplies the channel by zero."""
    return all(
        not _weight(layers[name])[:, where[channel]].any() for name, where in group.readers.items() if channel in where
    )


def _constant(group: Group, layers: Mapping[str, nn.Module], channel: int) -> float | None:
    """The value the channel always has before its activation, or None where it depends on the input.

    With several producers (a residual sum) only an exact 0 from each is told: the order of sums and norms is unknown.
    """
    values = [
        _written(layers[name], index) for name, where in group.producers.items() for index in where.get(channel, ())
    ]
    norms = [(layers[name], index) for name, where in group.norms.items() for index in where.get(channel, ())]
    if not values or any(value is None for value in values):
        return None
    if all(value == 0 for value in values) and all(_normed(norm, index, 0.0) == 0 for norm, index in norms):
        return 0.0
    if len(values) > 1 or len(norms) > 1:
        return None
    value = values[0]
    return value if value is None or not norms else _normed(*norms[0], value)


def _written(layer: nn.Module, index: int) -> float | None:
    """The constant a producer writes: its bias, where all weights of that output are zero."""
    assert isinstance(layer, WEIGHTED)
    if layer.weight[index].any():
        return None
    return float(layer.bias[index]) if layer.bias is not None else 0.0


def _normed(norm: nn.Module, index: int, value: float) -> float:
    """A BatchNorm in evaluation mode, of one value."""
    assert isinstance(norm, NORM)
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        return float("nan")
    scale = float(norm.weight[index]) if norm.affine else 1.0
    shift = float(norm.bias[index]) if norm.affine else 0.0
    return (value - float(mean[index])) / (float(var[index]) + norm.eps) ** 0.5 * scale + shift


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, WEIGHTED)
    return layer.weight.detach()


def tied(model: nn.Module) -> Iterator[str]:
    """Names of parameters that are one tensor under several names; cutting would silently part them."""
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = seen.setdefault(id(parameter), name)
        if first != name:
            yield f"{first} = {name}"


def finite(model: nn.Module) -> bool:
    """Whether every floating-point value of the model is finite."""
    values = [*model.parameters(), *model.buffers()]
    return all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point())
