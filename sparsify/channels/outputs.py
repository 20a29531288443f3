"""Which layers give a network's output, seen by running it once: what flows from a layer to the end through no other.

Every operation is watched as it is dispatched, so that it does not matter whether gradients reach it, whether a layer
or other code applies its weight, or whether a part is scripted: in these tracing by autograd sees nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsify.channels.preflight import is_layer
from sparsify.errors import UsageError

Names = frozenset[str]


def output_layers(module: nn.Module, example: Tensor) -> Names:
    """Names of the weights whose products reach the output through no other layer; with a residual sum, of several.

    Args:
        module: Not changed.
        example: Inputs (N, ...) that it takes.

    Raises:
        UsageError: No tensor of the output comes from a layer, as far as can be seen (it went through NumPy, say).
    """
    copied = copy.deepcopy(module).eval()
    weights = {
        _storage(parameter): f"{path}.{local}" if path else local
        for path, layer in copied.named_modules()
        if is_layer(layer) and not isinstance(layer, nn.Embedding)  # of a sum with positions, their table gives nothing
        for local, parameter in layer.named_parameters()
        if parameter.ndim > 1
    }
    flow, fast = _Flow(weights, example), torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # fused, attention's two weights are in one operation
        with torch.no_grad(), flow:
            output: object = copied(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    names = flow.names_of(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    if not names:
        raise UsageError(
            f"{type(module).__name__}: expected an output that some layer gives, so that its classes are left whole, "
            f"got {type(output).__name__} with none that could be seen; return the tensor that the last layer computes"
        )
    return names


@dataclass(frozen=True)
class _Origin:
    """What a tensor holds: weights alone, or what became of the inputs after the layers named."""

    names: Names
    is_weight: bool


@final
class _Flow(TorchDispatchMode):
    """Follows tensors by their storage, so that views and what is written in place need no rule of their own."""

    def __init__(self, weights: dict[int, str], example: Tensor) -> None:
        super().__init__()
        self._origins = {storage: _Origin(frozenset({name}), is_weight=True) for storage, name in weights.items()}
        self._origins[_storage(example)] = _Origin(frozenset(), is_weight=False)
        self._given = frozenset(self._origins)
        self._alive: list[Tensor] = [example]  # a storage that is freed gives its address to another

    def names_of(self, tensors: Iterable[Tensor]) -> Names:
        """The layers that the tensors come from; none for what did not come from the inputs."""
        found = (self._origins.get(_storage(tensor)) for tensor in tensors)
        return frozenset().union(*(origin.names for origin in found if origin and not origin.is_weight))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        origin = self._joined([*_tensors((args, kwargs))])
        result = func(*args, **(kwargs or {}))
        if origin is not None:
            written = [args[0]] if args and func._schema.is_mutable else []
            for tensor in _tensors((result, written)):
                self._alive.append(tensor)
                if _storage(tensor) not in self._given:
                    self._origins[_storage(tensor)] = origin
        return result

    def _joined(self, tensors: Iterable[Tensor]) -> _Origin | None:
        """A weight's product is that layer's own, whatever it was fed; all else passes on what it came from."""
        found = [origin for tensor in tensors if (origin := self._origins.get(_storage(tensor)))]
        flowing = [origin.names for origin in found if not origin.is_weight]
        weights = [origin.names for origin in found if origin.is_weight]
        return _Origin(frozenset().union(*(weights or flowing)), is_weight=not flowing) if found else None


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
