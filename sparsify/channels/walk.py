"""From one layer's outputs along torch-pruning's edges to everything that shares its channels, and no further.

Torch-pruning's own walk compares index lists until nothing is new, which on grouped-query attention never ends: its
mapping there moves indices at each turn. Here a step is remembered by what it reaches, and a walk that comes back to
one place with ever other indices is given up. The edges and the mappings of indices along them are torch-pruning's.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

RETURNS = 64  # to one node with other indices: a DenseNet's concatenations stay far below


@dataclass(frozen=True)
class Reached:
    """A node of the graph whose channels go when those of the root do."""

    node: Any
    handler: Any
    """The function of torch-pruning that would cut it: by its inputs or by its outputs."""
    steps: tuple[tuple[tuple[int, int], ...], ...]
    """(index here, channel of the root), one tuple for each way that leads here."""

    @property
    def places(self) -> dict[int, tuple[int, ...]]:
        """Channel of the root -> ascending indices here."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        for way in self.steps:
            for index, root in way:
                found[root].add(index)
        return {root: tuple(sorted(indices)) for root, indices in found.items()}


class UnsettledError(Exception):
    """The walk does not end, or loses track of which root channel an index stands for; the message says where."""


def walk(
    root: Any,
    handler: Any,
    indices: Sequence[Any],
    *,
    unread: Collection[Any],
    most: int,
    single: Collection[tuple[Any, Any]] = (),
) -> list[Reached]:
    """Everything that is reached from cutting `root` by `handler`, the root first.

    Args:
        root: A node of torch-pruning's graph.
        handler: Its function that cuts outputs.
        indices: Torch-pruning's hybrid indices (index, channel of the root) of all channels.
        unread: Nodes whose mapping of indices is not known.
        most: Indices that any node can have: no layer is wider.
        single: Nodes that give a single channel, each with the function that cuts it; where several channels meet it,
            it is spread over them, which couples nothing.

    Raises:
        UnsettledError: The trace does not understand an operation on the way.
    """
    ways: dict[tuple[Any, Any], list[tuple[tuple[int, int], ...]]] = {}
    visits: Counter[Any] = Counter()
    pending = [(root, handler, list(indices))]
    while pending:
        node, fn, here = pending.pop()
        if len(here) > most or node in unread:
            raise _unsettled(node)
        way = tuple((index.idx, index.root_idx) for index in here)
        known = ways.setdefault((node, fn), [])
        if way in known:
            continue
        visits[node, fn] += 1
        if visits[node, fn] > RETURNS or any(channel is None for _, channel in way):
            raise _unsettled(node)
        known.append(way)
        for edge in node.dependencies:
            if len(here) > 1 and (edge.target, edge.handler) in single:
                continue
            if edge.is_triggered_by(fn) and (there := _mapped(edge, node, here)):
                pending.append((edge.target, edge.handler, there))
    return [Reached(node, fn, tuple(found)) for (node, fn), found in ways.items()]


def _unsettled(node: Any) -> UnsettledError:
    return UnsettledError(f"the trace does not understand the operations around {_called(node)}")


def _called(node: Any) -> str:
    """The operation as torch-pruning prints it, without the counter in its name."""
    return re.sub(r"_\d+", "", str(node.name)).strip("_")


def _mapped(edge: Any, node: Any, indices: list[Any]) -> list[Any]:
    for mapping in edge.index_mapping:
        if mapping is not None:
            try:
                indices = mapping(indices)
            except Exception as error:
                raise _unsettled(node) from error
    return indices
