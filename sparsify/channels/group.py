"""`Group`: what must go together for a channel to go, as slices of named tensors.

A *unit* is the least that can be removed: one channel, one attention head, one group of a grouped convolution. Removing
unit u of a group takes, of every tensor in its `cuts`, the slices `places[u]` along an axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

Places = tuple[tuple[int, ...], ...]
Side = Literal["out", "in", "through"]
Selection = Mapping[str, Sequence[int]]
"""Root of a group -> the units of it that go."""


@dataclass(frozen=True)
class Cut:
    """Where each unit of a group lies along one axis of one tensor."""

    tensor: str
    """Name in the state dict."""
    axis: int
    places: Places
    """For each unit its indices along the axis."""
    side: Side
    """`out`: the tensor writes the channel; `in`: it reads it; `through`: it passes it on, as a norm does."""


@dataclass(frozen=True)
class Resize:
    """A count a module keeps of itself: of channels, of heads, of blocks. It falls with those that go."""

    module: str
    attribute: str
    places: Places
    """For each unit which of the counted things go with it."""


@dataclass(frozen=True)
class Group:
    """Tensors that share channels. `root` is the layer that names the group."""

    root: str
    kind: Literal["channels", "channel blocks", "heads"]
    cuts: tuple[Cut, ...]
    resizes: tuple[Resize, ...]
    units: int
    unit_size: int = 1
    """Channels of the root in one unit."""
    attention: str = ""
    """Of heads: the module in which they attend, to whose products they contribute."""
    obstacle: str = ""
    """Why this group is left alone, with the module named; empty where it may be cut."""
    instead: Group | None = None
    """Another reading of the same layers, to be tried where this one proves wrong."""

    @property
    def width(self) -> int:
        """Channels of the root."""
        return self.units * self.unit_size

    @property
    def writers(self) -> tuple[str, ...]:
        """Modules whose outputs are cut, the root first."""
        names = [module_of(cut.tensor) for cut in self.cuts if cut.side == "out"]
        return tuple(dict.fromkeys([self.root, *names]))


def shown(layer: str) -> str:
    """A layer's name for people: a network that is a single layer has an empty one."""
    return layer or "the network itself"


def gives_output(layer: str) -> str:
    """Why all outputs of a layer stay that the network gives away."""
    return f"layer {layer} gives the network's output" if layer else "its one layer gives the network's output"


def module_of(tensor: str) -> str:
    """The module that holds a tensor, by name."""
    return tensor.rpartition(".")[0]


def removed_slices(groups: Iterable[Group], selection: Selection) -> dict[tuple[str, int], tuple[int, ...]]:
    """(tensor, axis) -> ascending indices that go, for the selected units of all groups together."""
    gone: defaultdict[tuple[str, int], list[tuple[int, ...]]] = defaultdict(list)
    for group in groups:
        for cut in group.cuts:
            gone[cut.tensor, cut.axis] += [cut.places[unit] for unit in selection.get(group.root, ())]
    flat = {where: tuple(sorted(set(chain.from_iterable(places)))) for where, places in gone.items()}
    return {where: indices for where, indices in flat.items() if indices}
