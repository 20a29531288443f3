"""Multiply-accumulate operations of one forward pass, counted by running it.

Counted are the products with weights (linear layers, convolutions with their groups) and the products of activations
with each other (attention: Q K^T and its product with V). Norms, activations, additions and pooling are not, as in the
counts papers quote. A linear or convolution weight of n elements that meets p positions costs n * p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Macs:
    """MACs of one example."""

    layers: Mapping[str, int]
    """Weight name -> MACs of the products with it."""
    attention: Mapping[str, int]
    """Module name -> MACs of products between activations inside it, or of weights applied without their module."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.layers.values()) + sum(self.attention.values())


@torch.no_grad()
def count_macs(module: nn.Module, example: Tensor) -> Macs:
    """MACs of `module` on one example, taken over the batch `example` (N, ...); its mode and values are not changed."""
    positions: defaultdict[str, int] = defaultdict(int)
    names = {layer: name for name, layer in module.named_modules()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        positions[names[layer]] += _positions(layer, inputs[0], output)

    hooks = [layer.register_forward_hook(note) for layer in names if _is_weighted(layer)]
    modes = {layer: layer.training for layer in names}
    counter = FlopCounterMode(display=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # fused, the products inside are not seen
        module.eval()
        with counter:
            module(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
        for layer, training in modes.items():
            layer.training = training
    batch = len(example)
    layers = {
        f"{name}.weight": count * _weight(module.get_submodule(name)).numel() // batch
        for name, count in positions.items()
    }
    return Macs(layers, _unattributed(counter, module, layers, batch))


def _unattributed(counter: FlopCounterMode, module: nn.Module, layers: Mapping[str, int], batch: int) -> dict[str, int]:
    """What the dispatcher saw beyond the layers, by the innermost module in which it happened."""
    root = type(module).__name__
    seen = {
        name.removeprefix(root).removeprefix("."): sum(ops.values()) // 2 // batch
        for name, ops in counter.get_flop_counts().items()
        if name != "Global"
    }
    own: dict[str, int] = {}
    for name, total in seen.items():
        if f"{name}.weight" in layers:
            continue
        below = [child for child, _ in module.get_submodule(name).named_children()]
        inner = sum(seen.get(f"{name}.{child}" if name else child, 0) for child in below)
        if total > inner:
            own[name] = total - inner
    return own


def _positions(layer: nn.Module, given: Tensor, output: Tensor) -> int:
    """How many times each element of the weight is multiplied, over the whole batch."""
    if isinstance(layer, TRANSPOSED):
        return given.numel() // layer.in_channels
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() // layer.out_channels
    return output.numel() // output.shape[-1]


def _is_weighted(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)) or type(layer).__name__ == "Conv1D"


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
