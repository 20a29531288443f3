"""Units: the least sets of channels that can go, where some go together or not at all.

A grouped convolution's input block g and output block g go together, so the layers before and after it become one
group; a GroupNorm's block of channels is normalised together, so it goes together; and channels that meet in one slice
of a tensor go together. Channels and places are the nodes of a graph, joined where a channel lies; its connected
components are the units.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sparsify.channels.group import Group, Places
from sparsify.channels.layer_cuts import Joint

Channel = tuple[int, int]
"""Index of a group, and a channel of it."""


@dataclass(frozen=True)
class Joined:
    """A group of single channels, and what joins them."""

    group: Group
    joints: tuple[Joint, ...]


def joined(group: Group, joints: Sequence[Joint]) -> Joined:
    """The group with `joints` and those of its own: tensors in which several channels meet in one slice."""
    own = [Joint(f"{cut.tensor}[{cut.axis}]", cut.places) for cut in group.cuts if _meet(cut.places)]
    return Joined(group, (*joints, *own))


def _meet(places: Places) -> bool:
    return sum(map(len, places)) > len(set(chain.from_iterable(places)))


def merged(groups: Sequence[Joined]) -> list[Group]:
    """Groups whose units respect all joints; groups that share a joint become one, called by the first's root."""
    result = [item.group for item in groups if not item.joints]
    for members in _connected([item for item in groups if item.joints]):
        result.append(_merge(members))
    return result


def _connected(groups: Sequence[Joined]) -> list[list[Joined]]:
    """Sets of groups that share a joint."""
    sets: list[list[Joined]] = []
    for item in groups:
        names = {joint.name for joint in item.joints}
        together = [other for other in sets if any(names & {joint.name for joint in one.joints} for one in other)]
        rest = [other for other in sets if other not in together]
        sets = [*rest, [*chain.from_iterable(together), item]]
    return sets


def _merge(members: Sequence[Joined]) -> Group:
    groups = [item.group for item in members]
    components = _components(members)
    unit_of = {channel: unit for unit, channels in enumerate(components) for channel in channels}

    def gathered(places: Places, index: int) -> Places:
        units: list[set[int]] = [set() for _ in components]
        for channel, held in enumerate(places):
            units[unit_of[index, channel]].update(held)
        return tuple(tuple(sorted(held)) for held in units)

    cuts = [replace(cut, places=gathered(cut.places, i)) for i, group in enumerate(groups) for cut in group.cuts]
    counts = [replace(count, places=gathered(count.places, i)) for i, g in enumerate(groups) for count in g.resizes]
    sizes = {sum(index == 0 for index, _ in channels) for channels in components}
    obstacles = [group.obstacle for group in groups if group.obstacle]
    if len(sizes) > 1:
        obstacles.append(f"{groups[0].root}: channels that go together are not equally many everywhere")
    return Group(
        groups[0].root,
        "channel blocks",
        tuple(cuts),
        tuple(counts),
        len(components),
        unit_size=max(sizes),
        obstacle="; ".join(dict.fromkeys(obstacles)),
    )


def _components(members: Sequence[Joined]) -> list[list[Channel]]:
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
        for joint in members[index].joints:
            for place in joint.places[channel]:
                parent[find((joint.name, place))] = find(node)
    found: defaultdict[object, list[Channel]] = defaultdict(list)
    for node in channels:
        found[find(node)].append(node)
    return list(found.values())
