"""Parameters that no run of a network uses: of branches that were not taken, and of layers that are left over.

No trace meets them and no trial runs them, so what feeds them is not known: on other inputs they may read, or add to,
channels of any layer as wide as they are. Those layers stay whole.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsify.channels.group import Group, module_of
from sparsify.channels.layer_cuts import reads, writes
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.channels.verify import in_training

WHY = "it does not run on the examples, in evaluation or in training mode"


def idle_parameters(module: nn.Module, example: Tensor) -> frozenset[str]:
    """Names of the parameters that no operation takes, neither in evaluation nor in training mode.

    Args:
        module: Runs on `example` in evaluation mode; it is not changed. That it does not run in training mode says
            nothing here.
        example: Inputs (N, ...).

    Raises:
        Untraceable: It does not run in evaluation mode.
    """
    copied = copy.deepcopy(module).eval()
    uses = _Uses({_storage(parameter) for parameter in copied.parameters()})
    with torch.no_grad(), naming_the_module(copied), uses:
        copied(example)
    with uses:
        in_training(copied, example)
    named = dict(copied.named_parameters(remove_duplicate=False))
    used = {name for name, parameter in named.items() if _storage(parameter) in uses.seen}
    layers = {name for name, layer in copied.named_modules() if writes(layer)}
    lent = {module_of(name) for name in used} & layers  # other code takes the weight of such a layer, and not its bias
    return frozenset(name for name in named.keys() - used if named[name].numel() > 1 and module_of(name) not in lent)


@final
class _Uses(TorchDispatchMode):
    """Which of the storages are an argument of any operation."""

    def __init__(self, storages: set[int]) -> None:
        super().__init__()
        self.seen: set[int] = set()
        self._storages = storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.seen |= {_storage(tensor) for tensor in given if tensor.layout == torch.strided} & self._storages
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def whole_beside(groups: Sequence[Group], module: nn.Module, idle: frozenset[str], example: Tensor) -> list[Group]:
    """The groups, with an obstacle for each that an idle layer may read or write.

    Raises:
        Untraceable: An idle layer is as wide as nothing that runs, so that it cannot be told what feeds it.
    """
    if not idle:
        return list(groups)
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    owners = {width: module_of(name) or name for name in sorted(idle) for width in _widths(module, name)}
    _check_fed(module, idle, {size for name in tensors.keys() - idle for size in tensors[name].shape}, example)
    result: list[Group] = []
    for group in groups:
        shared = (owners.get(tensors[cut.tensor].shape[cut.axis]) for cut in group.cuts)
        layer = next(filter(None, shared), None)
        why = f"{layer} may read or write its channels: {WHY}"
        result.append(replace(group, obstacle=why) if layer and not group.obstacle else group)
    return result


def _check_fed(module: nn.Module, idle: frozenset[str], known: set[int], example: Tensor) -> None:
    layers = {module_of(name): module.get_submodule(module_of(name)) for name in sorted(idle)}
    known = known | set(example.shape[1:]) | {writes(layer) for layer in layers.values()}
    for name, layer in layers.items():
        if reads(layer) not in known | {0}:
            raise Untraceable(
                name or type(module).__name__,
                f"a layer of {reads(layer)} inputs, which no layer gives, that does not run on the examples, in "
                "evaluation or in training mode: put nn.Identity in its place if it is left over, or give examples "
                "that reach it",
            )


def _widths(module: nn.Module, name: str) -> set[int]:
    """The channels that the owner of a parameter reads and writes; of one that keeps no such counts, every axis."""
    layer = module.get_submodule(module_of(name))
    counted = {reads(layer), writes(layer)} - {0}
    return (counted or set(module.get_parameter(name).shape)) - {1}


def idle_layers(idle: frozenset[str]) -> dict[str, str]:
    """Module -> why it is left as it is."""
    return {module_of(name): f"{WHY}; layers as wide as it is stay whole" for name in sorted(idle)}
