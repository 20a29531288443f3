"""What it takes to cut channels out of one layer: which tensors shrink along which axis, and which counts fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from sparsify.channels.group import Cut, Places, Resize, Side

CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_LIKE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class LayerCuts:
    """The share of one layer in a group."""

    cuts: tuple[Cut, ...] = ()
    resizes: tuple[Resize, ...] = ()
    blocks: int = 0
    """Where above 1, channels go only in whole runs: the layer holds its channels in so many equal blocks."""


def layer_cuts(name: str, layer: nn.Module, places: Places, *, writes: bool) -> LayerCuts | None:
    """How channels at `places` are cut from the layer; None for a kind of layer that this library cannot cut."""
    for kinds, cut in _BY_KIND:
        if isinstance(layer, kinds):
            return cut(name, layer, places, writes)
    return None


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel of a convolution is filtered by itself."""
    return isinstance(layer, CONVOLUTION) and layer.groups == layer.in_channels == layer.out_channels > 1


def _linear(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    if writes:
        return LayerCuts(_tensors(name, layer, places, 0, "out"), (_counts(name, "out_features", places),))
    return LayerCuts((Cut(f"{name}.weight", 1, places, "in"),), (_counts(name, "in_features", places),))


def _convolution(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    layer = cast(nn.Conv2d, layer)
    if is_depthwise(layer):
        counts = tuple(_counts(name, count, places) for count in ("in_channels", "out_channels", "groups"))
        return LayerCuts(_tensors(name, layer, places, 0, "through"), counts)
    if layer.groups > 1:
        return None
    if writes:
        return LayerCuts(_tensors(name, layer, places, 0, "out"), (_counts(name, "out_channels", places),))
    return LayerCuts((Cut(f"{name}.weight", 1, places, "in"),), (_counts(name, "in_channels", places),))


def _transposed(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    layer = cast(nn.ConvTranspose2d, layer)
    if layer.groups > 1:
        return None
    if not writes:
        return LayerCuts((Cut(f"{name}.weight", 0, places, "in"),), (_counts(name, "in_channels", places),))
    bias = (Cut(f"{name}.bias", 0, places, "out"),) if layer.bias is not None else ()
    return LayerCuts((Cut(f"{name}.weight", 1, places, "out"), *bias), (_counts(name, "out_channels", places),))


def _batch_like(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (_counts(name, "num_features", places),))


def _layer_norm(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    del writes
    if len(cast(nn.LayerNorm, layer).normalized_shape) != 1:
        return None
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (_counts(name, "normalized_shape", places),))


def _group_norm(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    groups = cast(nn.GroupNorm, layer).num_groups
    tensors = _tensors(name, layer, places, 0, "through")
    counts = (_counts(name, "num_channels", places),)
    return LayerCuts(tensors, counts, blocks=groups)


def _prelu(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    if cast(nn.PReLU, layer).num_parameters == 1:
        return LayerCuts()
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (_counts(name, "num_parameters", places),))


def _embedding(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del layer, writes
    return LayerCuts((Cut(f"{name}.weight", 1, places, "out"),), (_counts(name, "embedding_dim", places),))


def _tensors(name: str, layer: nn.Module, places: Places, axis: int, side: Side) -> tuple[Cut, ...]:
    """A cut of each tensor of the layer that holds one slice a channel."""
    held = ("weight", "bias", "running_mean", "running_var")
    return tuple(
        Cut(f"{name}.{local}", axis, places, side) for local in held if isinstance(getattr(layer, local, None), Tensor)
    )


def _counts(name: str, attribute: str, places: Places) -> Resize:
    return Resize(name, attribute, tuple(len(unit) for unit in places))


_Cutter = Callable[[str, nn.Module, Places, bool], LayerCuts | None]
_BY_KIND: tuple[tuple[Any, _Cutter], ...] = (
    (nn.Linear, _linear),
    (CONVOLUTION, _convolution),
    (TRANSPOSED, _transposed),
    (BATCH_LIKE, _batch_like),
    (nn.LayerNorm, _layer_norm),
    (nn.GroupNorm, _group_norm),
    (nn.PReLU, _prelu),
    (nn.Embedding, _embedding),
)
