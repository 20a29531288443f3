"""What a network weighs once units are gone, from sizes alone: its sparsity, and the share of MACs that remains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod

from sparsify.channels.group import Group
from sparsify.channels.macs import Macs

Removed = Mapping[str, Sequence[int]]
"""Root of a group -> the units of it that go."""


class Cost:
    """Sparsity and MACs of a network as a function of the units removed.

    A weight's size is the product of its axes, and its MACs are in proportion to its size: the positions it meets stay.

    Args:
        groups: What may be cut.
        shapes: Prunable weight -> shape, dense.
        macs: MACs of the dense network.
    """

    def __init__(self, groups: Sequence[Group], shapes: Mapping[str, tuple[int, ...]], macs: Macs) -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._macs = macs
        self._dense = sum(prod(shape) for shape in self._shapes.values())
        self._units = {group.root: group.units for group in groups}
        self._heads = {group.root: group.attention for group in groups if group.attention}
        self._counts: dict[str, list[tuple[str, int, list[int]]]] = {
            group.root: [
                (cut.tensor, cut.axis, [len(unit) for unit in cut.places])
                for cut in group.cuts
                if cut.tensor in self._shapes
            ]
            for group in groups
        }

    def sparsity(self, removed: Removed) -> float:
        """Fraction of prunable weights that is gone."""
        return 1.0 - sum(self._sizes(removed).values()) / self._dense

    def macs(self, removed: Removed) -> float:
        """Fraction of the dense MACs that remains."""
        sizes = self._sizes(removed)
        layers = sum(
            count * sizes[name] / prod(self._shapes[name]) if name in sizes else count
            for name, count in self._macs.layers.items()
        )
        attention: dict[str, float] = dict(self._macs.attention)
        for root, module in self._heads.items():
            if module in attention:
                attention[module] *= 1 - len(removed.get(root, ())) / self._units[root]
        return (layers + sum(attention.values())) / self._macs.total

    def _sizes(self, removed: Removed) -> dict[str, int]:
        gone: defaultdict[tuple[str, int], int] = defaultdict(int)
        for root, units in removed.items():
            for tensor, axis, counts in self._counts[root]:
                gone[tensor, axis] += sum(map(counts.__getitem__, units))
        return {
            name: prod(size - gone.get((name, axis), 0) for axis, size in enumerate(shape))
            for name, shape in self._shapes.items()
        }
