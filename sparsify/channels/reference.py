"""The masked network: the original with the slices of removed channels at zero, and nothing else changed.

It is what a physically smaller network must agree with. Weights, biases and a BatchNorm's scale, shift and running mean
of a removed channel are zero, so that the channel is silent whatever follows; what reads it multiplies it by zero. A
norm over channels (LayerNorm, RMSNorm, GroupNorm of one group) would count silent channels in its statistics, so here
it normalises the kept channels alone.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from sparsify.channels.group import Group, Selection, module_of, removed_slices
from sparsify.channels.plan import history_of
from sparsify.models.history import replay, shallow, substitute


@torch.no_grad()
def masked(model: nn.Module, groups: Iterable[Group], selection: Selection) -> nn.Module:
    """A copy of `model` in which the selected units are silent; same shapes, to be run in evaluation mode."""
    groups = list(groups)
    slices = removed_slices(groups, selection)
    history = history_of(model, groups, selection)
    copied = shallow(model)
    gone: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)
    for (tensor, axis), removed in slices.items():
        if not tensor.endswith("running_var"):
            gone[tensor][axis] = torch.tensor(removed)
    substitute(copied, {tensor: partial(_silenced, axes=axes) for tensor, axes in gone.items()})
    normed = {module_of(tensor): removed for (tensor, _), removed in slices.items()}
    for name, norm in list(copied.named_modules()):
        if name in normed and (dim := norm_axis(norm)) is not None:
            small = nn.Module()
            small.add_module("norm", copy.deepcopy(model.get_submodule(name)))
            own = [_moved(entry, name) for entry in history if _belongs(entry, name)]
            replay(small, own)
            norm.forward = _over_kept(small.get_submodule("norm"), normed[name], dim)
    return copied


def norm_axis(module: nn.Module) -> int | None:
    """The axis of channels where a module's statistics are taken over channels; None where they are not."""
    kind = type(module).__name__
    if isinstance(module, nn.GroupNorm):
        return 1 if module.num_groups == 1 else None
    if isinstance(module, nn.LayerNorm) or "RMSNorm" in kind or "RmsNorm" in kind:
        return 1 if "2d" in kind.lower() else -1
    return None


def _silenced(value: Tensor, *, axes: Mapping[int, Tensor]) -> Tensor:
    """The tensor with slices along its axes at zero."""
    silent = value.clone()
    for axis, index in axes.items():
        silent.index_fill_(axis, index.to(value.device), 0)
    return silent


def _over_kept(small: nn.Module, gone: tuple[int, ...], dim: int) -> Callable[[Tensor], Tensor]:
    """Normalise the kept channels alone; the others are zero."""

    def forward(x: Tensor) -> Tensor:
        kept = torch.tensor([i for i in range(x.shape[dim]) if i not in set(gone)], device=x.device)
        return torch.zeros_like(x).index_copy(dim, kept, small(x.index_select(dim, kept)))

    return forward


def _belongs(entry: dict[str, object], name: str) -> bool:
    return entry.get("module") == name or str(entry.get("tensor", "")).rpartition(".")[0] == name


def _moved(entry: dict[str, object], name: str) -> dict[str, object]:
    """The same entry for a module that is called `norm`."""
    if "module" in entry:
        return entry | {"module": "norm"}
    return entry | {"tensor": f"norm{str(entry['tensor'])[len(name) :]}"}
