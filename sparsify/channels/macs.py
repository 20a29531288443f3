"""Multiply-accumulate operations of one forward pass, counted by running it.

Counted are the products with weights (linear layers, convolutions with their groups, recurrent layers) and the products
of activations with each other (attention: Q K^T and its product with V). Norms, activations, additions and pooling are
not, as in the counts papers quote. A linear or convolution weight of n elements that meets p positions costs n * p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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
    modes = {layer: layer.training for layer in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    counter = _Counter(module)
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # fused, the products inside are not seen
        module.eval()
        with counter:
            module(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        counter.remove_hooks()
        for layer, training in modes.items():
            layer.training = training
    batch = len(example)
    layers = {name: count // batch for name, count in counter.layers.items()}
    return Macs(layers, {name: count // batch for name, count in counter.between.items() if count})


class _Counter(TorchDispatchMode):
    """Counts products as the dispatcher sees them: outside of layers with weights, by the innermost module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.layers: defaultdict[str, int] = defaultdict(int)
        self.between: defaultdict[str, int] = defaultdict(int)
        self._inside: list[str] = []
        self._layers_inside = 0
        self._hooks = [
            hook
            for name, layer in module.named_modules()
            for hook in (
                layer.register_forward_pre_hook(partial(self._enter, name)),
                layer.register_forward_hook(partial(self._leave, name)),
            )
        ]

    def remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        del inputs
        self._inside.append(name)
        self._layers_inside += _is_weighted(layer)

    def _leave(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._inside.pop()
        if not _is_weighted(layer):
            return
        self._layers_inside -= 1
        if isinstance(layer, nn.RNNBase):  # fused, or not: that depends on the kind and on what torch was built with
            self.between[name] += _steps(inputs[0]) * sum(weight.numel() for weight in _matrices(layer))
        else:
            self.layers[f"{name}.weight"] += _positions(layer, inputs[0], output) * _weight(layer).numel()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        output = func(*args, **(kwargs or {}))
        if not self._layers_inside:
            self.between[self._inside[-1] if self._inside else ""] += _products(func, args, kwargs or {}, output)
        return output


def _products(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """MACs of one operation. Fused attention is counted here: torch counts it on no CPU."""
    packet = getattr(func, "_overloadpacket", None)
    if "scaled_dot_product" in str(packet):
        query, key, value = args[:3]
        return query.numel() // query.shape[-1] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    flops = flop_registry.get(packet)
    return 0 if flops is None else flops(*args, **kwargs, out_val=output) // 2


def _positions(layer: nn.Module, given: Tensor, output: Tensor) -> int:
    """How many times each element of the weight is multiplied, over the whole batch."""
    if isinstance(layer, TRANSPOSED):
        return given.numel() // layer.in_channels
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() // layer.out_channels
    return output.numel() // output.shape[-1]


def _steps(given: Tensor | PackedSequence) -> int:
    """Steps of all sequences together."""
    return len(given.data) if isinstance(given, PackedSequence) else given.numel() // given.shape[-1]


def _matrices(layer: nn.RNNBase) -> Iterator[Tensor]:
    """Each meets every step once: those of all layers and directions, of the inputs, the state, and a projection."""
    return (parameter for parameter in layer.parameters() if parameter.ndim > 1)


def _is_weighted(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, nn.RNNBase, *CONVOLUTIONS, *TRANSPOSED)) or type(layer).__name__ == "Conv1D"


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
