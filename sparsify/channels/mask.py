"""Whole outputs of layers as a mask: what stands in for removed channels where a network cannot be followed.

Their weights are zero and stay where they are, so that nothing else in the network has to fit: no layer is coupled with
another, none becomes smaller, and no work is saved. Biases stay, too: a masked output is its bias, whatever the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.channels.contest import check_overrides, contest
from sparsify.channels.group import Cut, Group, gives_output
from sparsify.channels.importance import check_scores
from sparsify.channels.outputs import output_layers
from sparsify.channels.preflight import check_globs, matches
from sparsify.channels.reach import GRACE, beyond
from sparsify.channels.remove import Width
from sparsify.channels.select import Allocation
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.models.build import input_axes, prunable


@dataclass(frozen=True)
class ChannelMask:
    """A mask that keeps or removes whole outputs."""

    mask: Mask
    widths: Mapping[str, Width]
    """Layer -> its outputs, and those of them that have weights left, for every layer that could lose some."""
    skipped: Mapping[str, str]
    """Layer -> why all of its outputs stay."""
    asked: float
    """The sparsity asked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, named as in the report of a removal."""
        widths = {layer: asdict(width) for layer, width in self.widths.items()}
        asked, sparsity = {"sparsity": self.asked}, self.mask.sparsity
        return {"asked": asked, "sparsity": sparsity, "widths": widths, "skipped": dict(self.skipped)}


def mask_channels(
    module: nn.Module,
    example: Tensor,
    *,
    sparsity: float,
    scores: Mapping[str, Tensor],
    keep: Sequence[str] = (),
    round_to: int = 1,
    allocation: Allocation = "global",
    overrides: Mapping[str, float] | None = None,
    or_most: bool = False,
    shuffle: int | None = None,
) -> ChannelMask:
    """The least important outputs of all layers, as few as reach `sparsity`; the module is not changed.

    The arguments are those of `remove_channels`. Layers that give the network's output are left whole, as there; which
    these are is seen by running it.

    Raises:
        UsageError: The sparsity cannot be reached, or it cannot be seen which layers give the output.
    """
    names, overrides = prunable(module), overrides or {}
    check_scores(module, scores, names)
    check_globs("keep", keep, module)
    check_overrides(module, overrides)
    last = output_layers(module, example[:1])
    outputs = {name: 1 - input_axes(module).get(name, 1) for name in names}
    groups = {name: _group(name, module.get_parameter(name), axis) for name, axis in outputs.items()}
    skipped = {
        group.root: why for name, group in groups.items() if (why := _kept_because(group.root, name in last, keep))
    }
    free = [group for group in groups.values() if group.root not in skipped]
    rivals = contest(free, scores, overrides=overrides, round_to=round_to, shuffle=shuffle)
    total = sum(module.get_parameter(name).numel() for name in names)
    sizes = {group.root: module.get_parameter(name).numel() // group.units for name, group in groups.items()}

    def removed(going: Mapping[str, Sequence[int]]) -> float:
        return sum(sizes[root] * len(units) for root, units in going.items()) / total

    chosen = rivals.select(lambda going: removed(going) >= sparsity - GRACE, allocation)
    if chosen is None:
        if not or_most or not any(rivals.most.values()):
            most = removed(rivals.most)
            raise UsageError(
                beyond(
                    {"sparsity": sparsity}, sparsity=most, macs=1.0, round_to=round_to, skipped=skipped | rivals.narrow
                )
            )
        chosen = rivals.most
    gone = {name: chosen.get(group.root, ()) for name, group in groups.items()}
    mask = Mask({name: _kept(module.get_parameter(name), outputs[name], gone[name]) for name in names})
    widths = {group.root: Width(group.units, group.units - len(chosen[group.root]), ()) for group in free}
    return ChannelMask(mask, widths, skipped | rivals.narrow, sparsity)


def _group(name: str, weight: Tensor, axis: int) -> Group:
    """The outputs of one layer, with nothing that is coupled to them."""
    width = weight.shape[axis]
    root = name.rpartition(".")[0]
    return Group(root, "channels", (Cut(name, axis, tuple((i,) for i in range(width)), "out"),), (), width)


def _kept_because(layer: str, is_last: bool, keep: Sequence[str]) -> str:
    if is_last:
        return gives_output(layer)
    glob = next((glob for glob in keep if matches(layer, glob)), None)
    return "" if glob is None else f"kept, because {layer} matches {glob!r}"


def _kept(weight: Tensor, axis: int, gone: Sequence[int]) -> Tensor:
    kept = torch.ones(weight.shape, dtype=torch.bool)
    return kept.index_fill_(axis, torch.tensor(gone, dtype=torch.long), False)
