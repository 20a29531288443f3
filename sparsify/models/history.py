"""The channel history of a network: which channels were cut out of it, as JSON, and how to do it again.

A history is a list of objects of two kinds, in the order in which they happened:

    {"tensor": "conv1.weight", "axis": 0, "removed": [1, 4]}            slices 1 and 4 of the axis are gone
    {"module": "conv1", "attribute": "out_channels", "value": 6}        a count that the module keeps of itself

It names every tensor, so replaying it needs neither an example input nor a trace, and it can set nothing but whole
numbers where whole numbers were before: reading a history runs no code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError

History = list[dict[str, Any]]


def replay(module: nn.Module, history: Sequence[Mapping[str, Any]]) -> nn.Module:
    """Cut out of `module`, in place, what `history` says was cut out of its like; returns the module.

    Parameters are replaced, so an optimiser is made afterwards. Tensors that are one under several names stay one.

    Raises:
        CorruptError: An entry is no such object, or names what this module does not have.
    """
    for entry in history:
        if "tensor" in entry:
            _cut(module, entry)
        else:
            _resize(module, entry)
    return module


def _cut(module: nn.Module, entry: Mapping[str, Any]) -> None:
    name, axis, removed = entry.get("tensor"), entry.get("axis"), entry.get("removed")
    value = _tensor(module, name)
    if value is None or not _is_count(axis) or axis >= value.ndim or not _are_indices(removed, value.shape[axis]):
        got = "no such tensor" if value is None else f"shape {tuple(value.shape)}"
        raise CorruptError(
            f"channel history of {name}: expected removed indices along an axis of it, got {got} and "
            f"axis {axis!r}; is it this network's history?"
        )
    gone = set(removed)
    kept = torch.tensor([i for i in range(value.shape[axis]) if i not in gone], device=value.device)
    substitute(module, str(name), lambda whole: whole.index_select(axis, kept))


def shallow(module: nn.Module) -> nn.Module:
    """A copy of the modules that shares every tensor with the original: for what replaces tensors, as here."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def substitute(module: nn.Module, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Put `change` of a parameter or buffer in its place, under every name that it has."""
    value = _tensor(module, name)
    assert value is not None
    changed = change(value.detach())
    if isinstance(value, nn.Parameter):
        changed = nn.Parameter(changed, requires_grad=value.requires_grad)
    for store, local in list(_holders(module, value)):
        store[local] = changed


def _tensor(module: nn.Module, name: object) -> Tensor | None:
    if not isinstance(name, str):
        return None
    path, _, local = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return None
    return owner._parameters.get(local, owner._buffers.get(local))  # pyright: ignore[reportPrivateUsage]


def _holders(module: nn.Module, value: Tensor) -> Iterator[tuple[dict[str, Any], str]]:
    """Every place in which modules hold this very tensor: several for tied weights."""
    for owner in module.modules():
        for store in (owner._parameters, owner._buffers):  # pyright: ignore[reportPrivateUsage]
            for local, held in store.items():
                if held is value:
                    yield store, local


def _resize(module: nn.Module, entry: Mapping[str, Any]) -> None:
    name, attribute, value = entry.get("module"), entry.get("attribute"), entry.get("value")
    try:
        owner = module.get_submodule(str(name))
    except AttributeError:
        owner = None
    before = vars(owner).get(str(attribute)) if owner is not None else None
    if owner is not None and _is_count(before) and _is_count(value):
        setattr(owner, str(attribute), value)
    elif owner is not None and isinstance(before, tuple) and isinstance(value, list) and len(value) == len(before):
        setattr(owner, str(attribute), tuple(int(size) for size in value))
    else:
        raise CorruptError(
            f"channel history of {name}.{attribute}: expected a count to replace {before!r}, got {value!r}; "
            "is it this network's history?"
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_indices(removed: object, size: int) -> TypeGuard[list[int]]:
    return (
        isinstance(removed, list)
        and all(_is_count(index) and index < size for index in removed)
        and len(set(removed)) == len(removed) < size
    )
