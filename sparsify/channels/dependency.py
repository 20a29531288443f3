"""The one adapter to torch-pruning 1.6: which layers share channels, and cutting channels out of them.

Torch-pruning fails silently on frozen parameters, `no_grad`, tied weights and layers it does not know; every such trap
is met here or reported as a group's `obstacle`. Source: Fang et al. 2023, "DepGraph", arXiv 2301.12900.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsify.channels.dead import NORM, WEIGHTED, Group, Weighted
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.errors import UnavailableError


@dataclass(frozen=True)
class Member:
    """One layer, parameter or operation that torch-pruning couples to the channels of a root layer."""

    name: str
    """Of the module or the bare parameter; empty for an operation."""
    kind: Literal["module", "parameter", "output", "operation"]
    writes: bool
    """Whether its outputs are cut, rather than its inputs; norms and operations pass channels on, and say False."""
    axis: int
    """Of a bare parameter."""
    places: Mapping[int, tuple[int, ...]]
    """Channel of the root -> where it lies here."""


class Dependencies:
    """The dependency graph of one model, which it changes in place when it cuts.

    The model is in evaluation mode and trains no parameter afterwards; hand in a copy.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        """Trace `model` on `example` (N, ...).

        Raises:
            Untraceable: The forward pass fails, or its output cannot be followed back to the parameters.
            UnavailableError: Torch-pruning is not installed.
        """
        try:
            import torch_pruning
            from torch_pruning import ops
        except ImportError as error:
            raise UnavailableError(
                f"expected torch-pruning, got {error}; pip install 'torch-pruning>=1.6.1,<1.7'"
            ) from error
        for parameter in model.parameters():  # frozen parameters leave no trace in autograd: nothing would be found
            parameter.requires_grad_(True)
        self._names = {module: name for name, module in model.named_modules()}
        _refuse_compiled(model)
        with torch.enable_grad(), naming_the_module(model):
            self._graph: Any = torch_pruning.DependencyGraph()
            # In a list: a bare tensor is unpacked along its batch.
            self._graph.build_dependency(
                model.eval(), example_inputs=[example], output_transform=_marked, verbose=False
            )
        self._output = ops.OPTYPE.OUTPUT

    def seen(self) -> frozenset[str]:
        """Names of the modules that the trace found."""
        return frozenset(self._names[module] for module in self._graph.module2node if module in self._names)

    def coupled(self) -> list[list[Member]]:
        """What each root layer's outputs are coupled to, the root first in each."""
        return [[self._member(item) for item in found] for found in self._graph.get_all_groups()]

    def _member(self, item: Any) -> Member:
        node, module = item.dep.target, item.dep.target.module
        writes = self._graph.is_out_channel_pruning_fn(item.dep.handler) and isinstance(module, WEIGHTED)
        if isinstance(module, nn.Parameter):
            return Member(self._graph._param_to_name[module], "parameter", False, node.pruning_dim, _places(item))
        if name := self._names.get(module):
            return Member(name, "module", writes, 0, _places(item))
        return Member("", "output" if node.type == self._output else "operation", False, 0, _places(item))

    def groups(self) -> list[Group]:
        """Every group that begins at the outputs of a weighted layer."""
        return [self._group(found) for found in self._graph.get_all_groups()]

    def cut(self, model: nn.Module, root: str, channels: Sequence[int]) -> None:
        """Remove the channels from the layer `root` and everywhere else in its group."""
        layer = model.get_submodule(root)
        prune = self._graph.get_pruner_of_module(layer).prune_out_channels
        self._graph.get_pruning_group(layer, prune, list(channels)).prune(record_history=False)

    def _group(self, found: Any) -> Group:
        producers: dict[str, dict[int, tuple[int, ...]]] = {}
        norms: dict[str, dict[int, tuple[int, ...]]] = {}
        readers: dict[str, dict[int, tuple[int, ...]]] = {}
        obstacles: list[str] = []
        for item in found:
            module, where = item.dep.target.module, _places(item)
            name = self._names.get(module, "")
            if isinstance(module, WEIGHTED):
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups > 1:
                    obstacles.append(f"{name} is a grouped convolution")
                side = producers if self._graph.is_out_channel_pruning_fn(item.dep.handler) else readers
                side[name] = where
            elif isinstance(module, NORM):
                norms[name] = where
            elif name or isinstance(module, nn.Parameter):
                obstacles.append(f"{name or 'a bare parameter'} ({type(module).__name__}) couples its channels")
        root = found[0].dep.target.module
        return Group(self._names[root], _width(root), producers, norms, readers, "; ".join(obstacles))


def _marked(output: object) -> Tensor:
    """The output behind one more operation: torch-pruning marks as output only what is no layer itself."""
    if not isinstance(output, Tensor):
        raise TypeError(f"an output of type {type(output).__name__}: wrap the model so that it returns one tensor")
    if not output.requires_grad:
        raise TypeError("an output that no gradient reaches (argmax, no_grad, or detach)")
    return output * 1


def _refuse_compiled(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Untraceable(name or type(model).__name__, "a scripted module, whose layers cannot be replaced")


def _places(item: Any) -> dict[int, tuple[int, ...]]:
    places: defaultdict[int, list[int]] = defaultdict(list)
    for index, root_index in zip(item.idxs, item.root_idxs, strict=True):
        places[root_index].append(index)
    return {channel: tuple(indices) for channel, indices in places.items()}


def _width(layer: Weighted) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def widths(layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Output channels of every weighted layer, by name."""
    return {name: _width(layer) for name, layer in layers.items() if isinstance(layer, WEIGHTED)}
