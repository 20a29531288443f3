"""Units: the least sets of channels that can go, where layers hold channels in blocks that go whole or not at all.

A grouped convolution's input block g and output block g go together, so the layers before and after it become one
group; a GroupNorm's block of channels is normalised together, so it goes together. Channels and blocks are the nodes
of a graph, joined where a channel lies in a block; its connected components are the units.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sparsify.channels.group import Cut, Group, Places, Resize
from sparsify.channels.layer_cuts import Blocks

Channel = tuple[int, int]
"""Index of a group, and a channel of it."""


@dataclass(frozen=True)
class Blocked:
    """A group of single channels, and the blocks they lie in."""

    group: Group
    blocks: tuple[Blocks, ...]


def merged(blocked: Sequence[Blocked]) -> list[Group]:
    """Groups whose units respect all blocks; groups that share a block become one, called by the first's root."""
    result = [item.group for item in blocked if not item.blocks]
    for members in _connected([item for item in blocked if item.blocks]):
        result.append(_merge(members))
    return result


def _connected(blocked: Sequence[Blocked]) -> list[list[Blocked]]:
    """Sets of groups that share a module with blocks."""
    sets: list[list[Blocked]] = []
    for item in blocked:
        modules = {blocks.module for blocks in item.blocks}
        joined = [other for other in sets if any(modules & {b.module for b in one.blocks} for one in other)]
        sets = [other for other in sets if other not in joined] + [[*(one for other in joined for one in other), item]]
    return sets


def _merge(members: Sequence[Blocked]) -> Group:
    groups = [item.group for item in members]
    components = _components(members)
    unit_of = {channel: unit for unit, channels in enumerate(components) for channel in channels}
    cuts: list[Cut] = []
    resizes: list[Resize] = []
    falls: dict[tuple[str, str], list[set[int]]] = {}
    for index, item in enumerate(members):
        cuts += [replace(cut, places=_gathered(cut.places, index, unit_of, len(components))) for cut in item.group.cuts]
        for resize in item.group.resizes:
            fall = [0] * len(components)
            for channel, count in enumerate(resize.per_unit):
                fall[unit_of[index, channel]] += count
            resizes.append(replace(resize, per_unit=tuple(fall)))
        for blocks in item.blocks:
            gone = falls.setdefault((blocks.module, blocks.attribute), [set() for _ in components])
            for channel, held in enumerate(blocks.places):
                gone[unit_of[index, channel]].update(held)
    resizes += [Resize(*where, tuple(len(blocks) for blocks in gone)) for where, gone in falls.items()]
    sizes = {sum(index == 0 for index, _ in channels) for channels in components}
    obstacles = [group.obstacle for group in groups if group.obstacle]
    if len(sizes) > 1:
        obstacles.append(f"{groups[0].root}: blocks of unequal size")
    return Group(
        groups[0].root,
        "channel blocks",
        tuple(cuts),
        tuple(resizes),
        len(components),
        unit_size=max(sizes),
        obstacle="; ".join(dict.fromkeys(obstacles)),
    )


def _components(members: Sequence[Blocked]) -> list[list[Channel]]:
    """Channels of all groups, joined where they lie in one block; in order of their first channel."""
    parent: dict[object, object] = {}

    def find(node: object) -> object:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    channels = [(index, channel) for index, item in enumerate(members) for channel in range(item.group.units)]
    for node in channels:
        index, channel = node
        for blocks in members[index].blocks:
            for block in blocks.places[channel]:
                parent[find((blocks.module, block))] = find(node)
    found: defaultdict[object, list[Channel]] = defaultdict(list)
    for node in channels:
        found[find(node)].append(node)
    return list(found.values())


def _gathered(places: Places, index: int, unit_of: Mapping[Channel, int], units: int) -> Places:
    gathered: list[list[int]] = [[] for _ in range(units)]
    for channel, held in enumerate(places):
        gathered[unit_of[index, channel]] += held
    return tuple(tuple(sorted(held)) for held in gathered)
