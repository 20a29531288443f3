"""How many classes a checkpoint tells apart, read from the shape of its last layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sparsify.models.source import State

# Two numbers of classes no layer's width is likely to follow; only what differs between them is the head.
_TRIAL = (7, 11)


def outputs_for(asked: int | None, state: State | None, construct: Callable[[int], nn.Module]) -> int | None:
    """As many outputs as asked for, or as the checkpoint has where it has more or nothing is asked; None for neither.

    An ImageNet network on data of three classes keeps its thousand, and class i is output i.

    Args:
        asked: The data's number of classes, if it is known.
        state: The checkpoint, if there is one; its keys may carry a prefix.
        construct: Builds the network for a number of classes.
    """
    found = None if state is None else classes_in(state, construct)
    return found if asked is None or (found is not None and found > asked) else asked


def classes_in(state: State, construct: Callable[[int], nn.Module]) -> int | None:
    """The classes of a checkpoint, or None where its keys are not those of the network.

    The network is built twice without memory, for two numbers of classes: the parameters whose shape differs are the
    head's, whatever they are called.

    Args:
        state: The checkpoint; its keys may carry a prefix.
        construct: Builds the network for a number of classes.
    """
    few, many = (_shapes(construct, classes) for classes in _TRIAL)
    for name, shape in few.items():
        axes = [axis for axis, sizes in enumerate(zip(shape, many[name], strict=True)) if sizes == _TRIAL]
        found = state.get(name) if axes else None
        if axes and found is None:
            found = next((tensor for key, tensor in state.items() if key.endswith(f".{name}")), None)
        if found is not None and found.dim() == len(shape):
            return int(found.shape[axes[0]])
    return None


def _shapes(construct: Callable[[int], nn.Module], classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in construct(classes).named_parameters()}
