"""The one adapter to torch-pruning 1.6: which layers share channels, and cutting channels out of them.

Torch-pruning fails silently on frozen parameters, `no_grad`, tied weights and layers it does not know; every such trap
is met here or reported as a group's `obstacle`. Source: Fang et al. 2023, "DepGraph", arXiv 2301.12900.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparsify.channels.dead import NORM, WEIGHTED, Group
from sparsify.channels.layer_cuts import TRANSPOSED, writes
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.channels.walk import Reached, UnsettledError, walk
from sparsify.errors import UnavailableError

ROOTS = (*WEIGHTED, *TRANSPOSED)


@dataclass(frozen=True)
class Member:
    """One layer, parameter or operation that torch-pruning couples to the channels of a root layer."""

    name: str
    """Of the module or the bare parameter; empty for an operation; of what is unsettled, what is not understood."""
    kind: Literal["module", "parameter", "output", "operation", "unsettled"]
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
            from torch_pruning import _helpers, ops
        except ImportError as error:
            raise UnavailableError(
                f"expected torch-pruning, got {error}; pip install 'torch-pruning>=1.6.1,<1.7'"
            ) from error
        for parameter in model.parameters():  # frozen parameters leave no trace in autograd: nothing would be found
            parameter.requires_grad_(True)
        self._widest = max((size for parameter in model.parameters() for size in parameter.shape), default=0)
        self._names = {module: name for name, module in model.named_modules()}
        self._output, self._index = ops.OPTYPE.OUTPUT, vars(_helpers)["_HybridIndex"]
        self._graph: Any = torch_pruning.DependencyGraph()
        self._unread: frozenset[Any] = frozenset()
        """Nodes at which torch-pruning's reading of shapes fails; no walk goes through them."""
        with torch.enable_grad(), naming_the_module(model), _SpeltOut(), warnings.catch_warnings():
            # It says so once a step of a recurrent layer; a layer that it then cannot follow is named as an obstacle.
            warnings.filterwarnings("ignore", "Maximum recursive depth reached!")
            try:
                self._graph.build_dependency(
                    model.eval(),
                    example_inputs=example,
                    forward_fn=_called,  # left to itself it unpacks a tensor along its batch
                    output_transform=_marked,
                    verbose=False,
                )
            except Exception:
                if not hasattr(self._graph, "module2node"):  # the forward pass itself failed, or its output is no good
                    raise
                self._unread = _unreadable(self._graph)

    def coupled(self, known: Collection[str] = ()) -> list[list[Member]]:
        """What the outputs of each layer are coupled to, that layer first in each; those of `known` are left out.

        A layer whose surroundings the trace does not understand has one more member, of kind `unsettled`.
        """
        single = self._single()
        return [[self._member(item) for item in found] for found in self._walks(known, single)]

    def groups(self) -> list[Group]:
        """Every group that begins at the outputs of a weighted layer."""
        return [self._group(found) for found in self._walks((), frozenset())]

    def _single(self) -> frozenset[tuple[Any, Any]]:
        """Layers and norms of a single channel, each with the functions of torch-pruning that would cut it."""
        found: set[tuple[Any, Any]] = set()
        for module, node in self._graph.module2node.items():
            if isinstance(module, (*ROOTS, *NORM)) and self._graph.get_out_channels(module) == 1:
                pruner = self._graph.get_pruner_of_module(module)
                found.add((node, pruner.prune_out_channels))
                found |= {(node, pruner.prune_in_channels)} if isinstance(module, NORM) else set()
        return frozenset(found)

    def _walks(self, known: Collection[str], single: frozenset[tuple[Any, Any]]) -> Iterator[list[Reached]]:
        """What is reached from each layer with weights that is not reached before; of a single channel, nothing."""
        written: set[Any] = set()
        for module, node in list(self._graph.module2node.items()):
            if not isinstance(module, ROOTS) or module in written or self._names[module] in known:
                continue
            pruner = self._graph.get_pruner_of_module(module)
            indices = [self._index(idx=i, root_idx=i) for i in range(pruner.get_out_channels(module))]
            try:
                found = walk(
                    node, pruner.prune_out_channels, indices, unread=self._unread, most=self._widest, single=single
                )
            except UnsettledError as error:
                own = tuple((i, i) for i in range(len(indices)))
                yield [Reached(node, pruner.prune_out_channels, (own,)), Reached(str(error), None, ())]
                continue
            if (own := (node, pruner.prune_out_channels)) in single:  # it may be spread over the channels of another
                found = [item for item in found if (item.node, item.handler) == own or item.node.type == self._output]
            written.update(item.node.module for item in found if self._graph.is_out_channel_pruning_fn(item.handler))
            yield found

    def _member(self, item: Reached) -> Member:
        if isinstance(item.node, str):
            return Member(item.node, "unsettled", False, 0, {})
        module = item.node.module
        is_cut = self._graph.is_out_channel_pruning_fn(item.handler) and isinstance(module, ROOTS)
        if isinstance(module, nn.Parameter):
            name = self._graph._param_to_name[module]
            return Member(name, "parameter", False, item.node.pruning_dim % module.ndim, item.places)
        if name := self._names.get(module):
            return Member(name, "module", is_cut, 0, item.places)
        return Member("", "output" if item.node.type == self._output else "operation", False, 0, item.places)

    def cut(self, model: nn.Module, root: str, channels: Sequence[int]) -> None:
        """Remove the channels from the layer `root` and everywhere else in its group.

        Raises:
            Untraceable: torch-pruning cannot; the model may be cut in part.
        """
        layer = model.get_submodule(root)
        prune = self._graph.get_pruner_of_module(layer).prune_out_channels
        try:
            self._graph.get_pruning_group(layer, prune, list(channels)).prune(record_history=False)
        except Exception as error:  # it reads every reshape anew, and some it cannot count (ShuffleNet's)
            raise Untraceable(root, f"a cut that torch-pruning ends in {type(error).__name__}: {error}") from error

    def _group(self, found: Sequence[Reached]) -> Group:
        producers: dict[str, Mapping[int, tuple[int, ...]]] = {}
        norms: dict[str, Mapping[int, tuple[int, ...]]] = {}
        readers: dict[str, Mapping[int, tuple[int, ...]]] = {}
        obstacles: list[str] = []
        for item in found:
            if isinstance(item.node, str):
                obstacles.append(item.node)
                continue
            module, where = item.node.module, item.places
            name = self._names.get(module, "")
            if isinstance(module, WEIGHTED):
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups > 1:
                    obstacles.append(f"{name} is a grouped convolution")
                side = producers if self._graph.is_out_channel_pruning_fn(item.handler) else readers
                side[name] = where
            elif isinstance(module, NORM):
                norms[name] = where
            elif name or isinstance(module, nn.Parameter):
                obstacles.append(f"{name or 'a bare parameter'} ({type(module).__name__}) couples its channels")
        root = found[0].node.module
        return Group(self._names[root], writes(root), producers, norms, readers, "; ".join(obstacles))


def _called(model: nn.Module, example: Tensor) -> object:
    return model(example)


def _marked(output: object) -> Tensor:
    """The output behind one more operation: torch-pruning marks as output only what is no layer itself."""
    if not isinstance(output, Tensor):
        raise TypeError(f"an output of type {type(output).__name__}: wrap the model so that it returns one tensor")
    if not output.requires_grad:
        raise TypeError("an output that no gradient reaches (argmax, no_grad, or detach)")
    return output * 1


class _SpeltOut(TorchFunctionMode):
    """Gated linear units in two halves and their product, which torch-pruning understands; of `glu` it has no rule."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is not nn.functional.glu:
            return func(*args, **(kwargs or {}))
        value, gate = _glu_halves(*args, **(kwargs or {}))
        return value * torch.sigmoid(gate)


def _glu_halves(input: Tensor, dim: int = -1) -> tuple[Tensor, ...]:
    return input.chunk(2, dim)


def _unreadable(graph: Any) -> frozenset[Any]:
    """Read shapes and index mappings node by node, as torch-pruning does for all at once; the nodes where that fails.

    It raises on splits of unknown sizes and reshapes of channels it cannot count (ShuffleNet, GPT-2, GPT-NeoX).
    """
    from torch_pruning.dependency import index_mapping, shape_infer

    unreadable: set[Any] = set()
    for read in (shape_infer.init_shape_information, index_mapping.update_index_mapping):
        for module, node in graph.module2node.items():
            alone = SimpleNamespace(
                module2node={module: node},
                get_in_channels=graph.get_in_channels,
                get_out_channels=graph.get_out_channels,
                _2d_4d=graph._2d_4d,
            )
            try:
                read(alone)
            except Exception:
                unreadable.add(node)
    return frozenset(unreadable)


def refuse_scripted(model: nn.Module) -> None:
    """Refuse a model with a scripted part, which is no Python that could be changed.

    Raises:
        Untraceable: Naming the part.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Untraceable(name or type(model).__name__, "a scripted module, whose layers cannot be replaced")


def widths(layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Output channels of every weighted layer, by name."""
    return {name: writes(layer) for name, layer in layers.items() if isinstance(layer, WEIGHTED)}
