"""The groups of a model: what torch-pruning's graph couples, as slices of named tensors, or why it is left alone."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from sparsify.channels.dependency import Dependencies, Member
from sparsify.channels.group import Cut, Group, Places, Resize, gives_output, module_of
from sparsify.channels.heads import head_groups
from sparsify.channels.layer_cuts import Joint, layer_cuts
from sparsify.channels.packed import packed_groups
from sparsify.channels.units import Joined, joined, merged

OPAQUE = (nn.RNNBase, nn.MultiheadAttention)
"""Modules whose parameters share channels in ways that no cut along one axis respects."""
WIDTHS = ("hidden_dim", "embed_dim")
"""What modules call the width of the stream that a parameter of theirs, a class token say, joins."""


def trace_groups(model: nn.Module, example: Tensor) -> list[Group]:
    """Every group of `model`, which is not changed, in module order.

    Args:
        model: Any module that maps one tensor to one tensor.
        example: A batch (N, ...) that it takes; two examples are enough.

    Raises:
        Untraceable: The model cannot be followed; the message names the module.
    """
    graph = Dependencies(copy.deepcopy(model), example)
    layers = dict(model.named_modules())
    order = {name: i for i, name in enumerate(layers)}
    known = [*head_groups(model), *packed_groups(model)]
    inside = {(cut.tensor, cut.axis): group.root for group in known for cut in group.cuts}
    written = {name for group in known for name in group.writers}
    found = [_joined(members, layers) for members in graph.coupled(written)]
    traced = merged(sorted(found, key=lambda item: order[item.group.root]))
    traced = [_outside(group, inside) for group in traced]
    groups = [_within(_untied(group, model), model) for group in [*known, *traced]]
    return sorted(_disjoint(groups), key=lambda group: order[group.root])


def _joined(members: Sequence[Member], layers: Mapping[str, nn.Module]) -> Joined:
    first = members[0].name
    width = len(members[0].places)
    cuts: list[Cut] = []
    resizes: list[Resize] = []
    joints: list[Joint] = []
    obstacles: list[str] = []
    for member in members:
        places: Places = tuple(member.places.get(channel, ()) for channel in range(width))
        if member.kind == "output":
            obstacles.append(gives_output(first))
        elif member.kind == "unsettled":
            obstacles.append(member.name)
        elif member.kind == "parameter" and isinstance(layers[module_of(member.name)], OPAQUE):
            owner = module_of(member.name)
            obstacles.append(f"{owner} ({type(layers[owner]).__name__}) cannot be cut")
        elif member.kind == "parameter":
            cuts.append(Cut(member.name, member.axis, places, "through"))
            owner = module_of(member.name)
            resizes += [Resize(owner, count, places) for count in _widths(layers[owner], member)]
        elif member.kind == "module":
            layer = layers[member.name]
            share = layer_cuts(member.name, layer, places, writes=member.writes)
            if share is None:
                obstacles.append(f"{member.name} ({type(layer).__name__}) cannot be cut")
                continue
            cuts += share.cuts
            resizes += share.resizes
            joints += [share.joint] if share.joint else []
    root = next((module_of(cut.tensor) for cut in cuts if cut.side == "out"), first)
    obstacle = "; ".join(dict.fromkeys(obstacles))
    group = Group(root, "channels", tuple(cuts), tuple(resizes), width, obstacle=obstacle)
    return joined(group, joints)


def _widths(owner: nn.Module, member: Member) -> list[str]:
    """The counts that a module keeps of the channels of its own bare parameter: an RMSNorm, a ViT with its token."""
    if isinstance(getattr(owner, "normalized_shape", None), tuple):
        return ["normalized_shape"]
    size = owner.get_parameter(member.name.rpartition(".")[2]).shape[member.axis]
    return [name for name in WIDTHS if vars(owner).get(name) == size]


def _outside(group: Group, inside: Mapping[tuple[str, int], str]) -> Group:
    """An obstacle where the trace leads into what is recognised as heads or as a feed-forward layer."""
    known = next((inside[cut.tensor, cut.axis] for cut in group.cuts if (cut.tensor, cut.axis) in inside), "")
    obstacle = f"the trace leads from {group.root} into {known}, which is cut otherwise"
    return replace(group, obstacle=obstacle) if known and not group.obstacle else group


def _within(group: Group, model: nn.Module) -> Group:
    """An obstacle where a slice lies outside its tensor: a split or reshape that the trace did not understand."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for cut in group.cuts:
        size = tensors[cut.tensor].shape[cut.axis]
        if any(index >= size for unit in cut.places for index in unit) and not group.obstacle:
            reader = module_of(cut.tensor) or cut.tensor
            obstacle = f"the trace does not understand how channels reach {reader} (a split or reshape)"
            group = replace(group, obstacle=obstacle)
    return group


def _untied(group: Group, model: nn.Module) -> Group:
    """One cut for a tensor with several names; an obstacle where its names would be cut differently."""
    cuts: dict[tuple[str, int], Cut] = {}
    aliases = tied_names(model)
    obstacles = [group.obstacle] if group.obstacle else []
    for cut in group.cuts:
        names = aliases.get(cut.tensor, (cut.tensor,))
        same = {other.tensor for other in group.cuts if (other.axis, other.places) == (cut.axis, cut.places)}
        if parted := [name for name in names if name not in same]:
            obstacles.append(f"{cut.tensor} is tied to {parted[0]}, which would be cut differently")
        cuts.setdefault((names[0], cut.axis), replace(cut, tensor=names[0]))
    return replace(group, cuts=tuple(cuts.values()), obstacle="; ".join(dict.fromkeys(obstacles)))


def tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Parameter name -> all names of the same tensor, for those that have several."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for path, module in model.named_modules():
        for local, parameter in module._parameters.items():  # pyright: ignore[reportPrivateUsage]
            if parameter is not None:
                names[id(parameter)].append(f"{path}.{local}" if path else local)
    return {name: tuple(same) for same in names.values() if len(same) > 1 for name in same}


def _disjoint(groups: Sequence[Group]) -> list[Group]:
    """Groups none of which claims a slice that an earlier one has; a claimed slice means the trace went wrong.

    A walk that could not be finished from one layer may succeed from another: then that one's group holds.
    """
    owner: dict[tuple[str, int, int], str] = {}
    result: list[Group] = []
    for group in sorted(groups, key=lambda group: bool(group.obstacle)):
        slices = [(cut.tensor, cut.axis, index) for cut in group.cuts for unit in cut.places for index in unit]
        taken = next((where for where in slices if where in owner), None)
        if taken and group.obstacle and module_of(taken[0]) == group.root:
            continue
        if taken and not group.obstacle:
            group = replace(group, obstacle=f"{taken[0]} is also claimed by the channels of {owner[taken]}")
        if not group.obstacle:
            owner.update(dict.fromkeys(slices, group.root))
        result.append(group)
    return result
