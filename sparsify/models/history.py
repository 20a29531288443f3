"""The channel history of a network: which channels were cut out of it, as JSON, and how to do it again.

A history is a list of objects of three kinds, in the order in which they happened:

    {"module": "attn", "becomes": "SeparateAttention"}                  an `nn.MultiheadAttention` was taken apart
    {"tensor": "conv1.weight", "axis": 0, "removed": [1, 4]}            slices 1 and 4 of the axis are gone
    {"module": "conv1", "attribute": "out_channels", "value": 6}        a count that the module keeps of itself

It names every tensor, so replaying it needs neither an example input nor a trace, and it can set nothing but whole
numbers where whole numbers were before, and make one class of one other: reading a history runs no code of its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError
from sparsify.models.separate_attention import SeparateAttention

SEPARATED = SeparateAttention.__name__
History = list[dict[str, Any]]
Holders = dict[int, list[tuple[dict[str, Any], str]]]
"""Identity of a tensor -> where modules hold it."""
_CARRIED = "_channel_history"


def replay(module: nn.Module, history: Sequence[Mapping[str, Any]]) -> nn.Module:
    """Cut out of `module`, in place, what `history` says was cut out of its like; returns the module.

    Parameters are replaced, so an optimiser is made afterwards. Tensors that are one under several names stay one. The
    module carries its history from then on, see `carried`.

    Raises:
        CorruptError: An entry is no such object, or names what this module does not have.
    """
    holders = _holders(module)
    for entry in history:
        if not isinstance(entry, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CorruptError(f"channel history: expected an object, got {entry!r}; is it this network's history?")
        if "tensor" in entry:
            _cut(module, entry, holders)
        elif "becomes" in entry:
            _separate(module, entry)
            holders = _holders(module)
        else:
            _resize(module, entry)
    if history:
        setattr(module, _CARRIED, json.dumps([*carried(module), *history]))  # text: copies of the module share it
    return module


def carried(module: nn.Module) -> History:
    """All that was ever replayed on the module, or on what it is a copy of, first to last; empty for nothing."""
    return json.loads(vars(module).get(_CARRIED, "[]"))


def replay_rest(module: nn.Module, history: Sequence[Mapping[str, Any]]) -> nn.Module:
    """`replay` what of `history` the module does not carry yet, where what it carries is how the history begins."""
    done = carried(module)
    return replay(module, history[len(done) :] if list(history[: len(done)]) == done else history)


def shallow(module: nn.Module) -> nn.Module:
    """A copy of the modules that shares every tensor with the original: for what replaces tensors, as here."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def substitute(module: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
    """Put a change of each parameter or buffer named in its place, under every name that it has."""
    holders = _holders(module)
    for name, change in changes.items():
        value = _tensor(module, name)
        assert value is not None
        _replace(value, change(value.detach()), holders)


def _separate(module: nn.Module, entry: Mapping[str, Any]) -> None:
    """Take an `nn.MultiheadAttention` apart, wherever the module holds it."""
    name, becomes = entry.get("module"), entry.get("becomes")
    packed = dict(module.named_modules()).get(name) if isinstance(name, str) else None
    if type(packed) is not nn.MultiheadAttention or packed is module or becomes != SEPARATED:
        raise CorruptError(
            f"channel history of {name}: expected an nn.MultiheadAttention inside a network to become {SEPARATED}, got "
            f"{type(packed).__name__} to become {becomes!r}; is it this network's history?"
        )
    separate = SeparateAttention(packed)
    for owner in list(module.modules()):
        if isinstance(owner, nn.TransformerEncoder) and packed in owner.modules():
            owner.use_nested_tensor = False  # only the path of packed weights takes nested tensors
        for local, held in list(owner._modules.items()):  # pyright: ignore[reportPrivateUsage]
            if held is packed:
                owner.register_module(local, separate)


def _cut(module: nn.Module, entry: Mapping[str, Any], holders: Holders) -> None:
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
    _replace(value, value.detach().index_select(axis, kept), holders)


def _replace(value: Tensor, changed: Tensor, holders: Holders) -> None:
    if isinstance(value, nn.Parameter):
        changed = nn.Parameter(changed, requires_grad=value.requires_grad)
    places = holders.pop(id(value))
    for store, local in places:
        store[local] = changed
    holders[id(changed)] = places


def _tensor(module: nn.Module, name: object) -> Tensor | None:
    if not isinstance(name, str):
        return None
    path, _, local = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return None
    return owner._parameters.get(local, owner._buffers.get(local))  # pyright: ignore[reportPrivateUsage]


def _holders(module: nn.Module) -> Holders:
    """For every tensor the places in which modules hold it: several for tied weights."""
    found: Holders = {}
    for owner in module.modules():
        for store in (owner._parameters, owner._buffers):  # pyright: ignore[reportPrivateUsage]
            for local, held in store.items():
                if held is not None:
                    found.setdefault(id(held), []).append((store, local))
    return found


def _resize(module: nn.Module, entry: Mapping[str, Any]) -> None:
    name, attribute, value = entry.get("module"), entry.get("attribute"), entry.get("value")
    try:
        owner = module.get_submodule(str(name))
    except AttributeError:
        owner = None
    before = vars(owner).get(str(attribute)) if owner is not None else None
    if owner is not None and _is_count(before) and _is_count(value):
        setattr(owner, str(attribute), value)
    elif owner is not None and isinstance(before, tuple) and _are_counts(value, len(before)):
        setattr(owner, str(attribute), tuple(value))
    else:
        raise CorruptError(
            f"channel history of {name}.{attribute}: expected a count to replace {before!r}, got {value!r}; "
            "is it this network's history?"
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_counts(value: object, length: int) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == length and all(map(_is_count, value))


def _are_indices(removed: object, size: int) -> TypeGuard[list[int]]:
    return (
        isinstance(removed, list)
        and all(_is_count(index) and index < size for index in removed)
        and len(set(removed)) == len(removed) < size
    )
