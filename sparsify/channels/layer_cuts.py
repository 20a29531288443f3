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
class Joint:
    """Channels that share a place go together: blocks of channels that a module treats alike, for one."""

    name: str
    """Joints of one name share their places: input and output blocks of a grouped convolution go together."""
    places: Places
    """For each channel where it lies."""


@dataclass(frozen=True)
class LayerCuts:
    """The share of one layer in a group."""

    cuts: tuple[Cut, ...] = ()
    resizes: tuple[Resize, ...] = ()
    joint: Joint | None = None
    """Where given, channels go only in whole blocks."""


def layer_cuts(name: str, layer: nn.Module, places: Places, *, writes: bool) -> LayerCuts | None:
    """How channels at `places` are cut from the layer; None for a kind of layer that this library cannot cut."""
    if is_transformers_conv1d(layer):
        return _transformers_conv1d(name, layer, places, writes)
    for kinds, cut in _BY_KIND:
        if isinstance(layer, kinds):
            return cut(name, layer, places, writes)
    return None


def writes(layer: nn.Module) -> int:
    """Output channels of a layer with weights; 0 for another kind of module."""
    return _first_count(layer, ("out_features", "out_channels", "nf", "embed_dim", "hidden_size", "embedding_dim"))


def reads(layer: nn.Module) -> int:
    """Input channels of a layer with weights; 0 for another kind of module."""
    return _first_count(layer, ("in_features", "in_channels", "nx"))


def _first_count(layer: nn.Module, names: tuple[str, ...]) -> int:
    return next((count for name in names if isinstance(count := getattr(layer, name, None), int)), 0)


def is_transformers_conv1d(layer: nn.Module) -> bool:
    """Whether a layer is the `Conv1D` of transformers, told without importing transformers."""
    return type(layer).__name__ == "Conv1D" and hasattr(layer, "nx") and hasattr(layer, "nf")


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel of a convolution is filtered by itself."""
    return isinstance(layer, CONVOLUTION) and layer.groups == layer.in_channels == layer.out_channels > 1


def _linear(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    if writes:
        return LayerCuts(_tensors(name, layer, places, 0, "out"), (Resize(name, "out_features", places),))
    return LayerCuts(_read(name, places), (Resize(name, "in_features", places),))


def _transformers_conv1d(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    """A linear layer whose weight is (in, out), as GPT-2's."""
    if not writes:
        return LayerCuts((Cut(f"{name}.weight", 0, places, "in"),), (Resize(name, "nx", places),))
    return LayerCuts(
        (Cut(f"{name}.weight", 1, places, "out"), Cut(f"{name}.bias", 0, places, "out")), (Resize(name, "nf", places),)
    )


def _convolution(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    layer = cast(nn.Conv2d, layer)
    if is_depthwise(layer):
        counts = tuple(Resize(name, count, places) for count in ("in_channels", "out_channels", "groups"))
        return LayerCuts(_tensors(name, layer, places, 0, "through"), counts)
    side: Side = "out" if writes else "in"
    count = Resize(name, f"{side}_channels", places)
    if layer.groups > 1:  # the input axis of its weight is one block wide, whatever the number of blocks
        blocks = _blocks(places, layer.groups, getattr(layer, f"{side}_channels"))
        counts = (count, Resize(name, "groups", blocks))
        return LayerCuts(_tensors(name, layer, places, 0, "out") if writes else (), counts, Joint(name, blocks))
    return LayerCuts(_tensors(name, layer, places, 0, "out") if writes else _read(name, places), (count,))


def _transposed(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    layer = cast(nn.ConvTranspose2d, layer)
    if layer.groups > 1:
        return None
    if not writes:
        return LayerCuts((Cut(f"{name}.weight", 0, places, "in"),), (Resize(name, "in_channels", places),))
    bias = (Cut(f"{name}.bias", 0, places, "out"),) if layer.bias is not None else ()
    return LayerCuts((Cut(f"{name}.weight", 1, places, "out"), *bias), (Resize(name, "out_channels", places),))


def _batch_like(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (Resize(name, "num_features", places),))


def _layer_norm(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts | None:
    del writes
    if len(cast(nn.LayerNorm, layer).normalized_shape) != 1:
        return None
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (Resize(name, "normalized_shape", places),))


def _group_norm(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    layer = cast(nn.GroupNorm, layer)
    tensors = _tensors(name, layer, places, 0, "through")
    counts = (Resize(name, "num_channels", places),)
    if layer.num_groups == 1:
        return LayerCuts(tensors, counts)
    blocks = _blocks(places, layer.num_groups, layer.num_channels)
    return LayerCuts(tensors, (*counts, Resize(name, "num_groups", blocks)), Joint(name, blocks))


def _prelu(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del writes
    if cast(nn.PReLU, layer).num_parameters == 1:
        return LayerCuts()
    return LayerCuts(_tensors(name, layer, places, 0, "through"), (Resize(name, "num_parameters", places),))


def _embedding(name: str, layer: nn.Module, places: Places, writes: bool) -> LayerCuts:
    del layer, writes
    return LayerCuts((Cut(f"{name}.weight", 1, places, "out"),), (Resize(name, "embedding_dim", places),))


def _tensors(name: str, layer: nn.Module, places: Places, axis: int, side: Side) -> tuple[Cut, ...]:
    """A cut of each tensor of the layer that holds one slice a channel."""
    held = ("weight", "bias", "running_mean", "running_var")
    return tuple(
        Cut(f"{name}.{local}", axis, places, side) for local in held if isinstance(getattr(layer, local, None), Tensor)
    )


def _read(name: str, places: Places) -> tuple[Cut, ...]:
    return (Cut(f"{name}.weight", 1, places, "in"),)


def _blocks(places: Places, blocks: int, channels: int) -> Places:
    """The blocks that each channel's places lie in, where `channels` lie in so many equal runs."""
    size = channels // blocks
    return tuple(tuple(dict.fromkeys(i // size for i in unit)) for unit in places)


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
