"""Which layers stay dense because of the layout of their neighbours.

ONNX Runtime computes convolutions and pooling in blocks of channels (NCHWc, its `nchwc_transformer.cc`), and what lies
between them where all of its inputs are laid out so; our operators take and give plain images. Wherever the two meet, a
value is copied from one layout into the other. A dense layer that was timed by itself paid for both of its ends, which
is right between sparse neighbours and too much between dense ones, where it is the sparse layer that causes copies: so
it is timed in blocks, too.

So the choice of one layer depends on its neighbours'. Every layer is on one of two sides, every value that is read on
the other side than it was made on costs one copy: the cheapest choice is a minimum cut (Greig, Porteous and Seheult
1989, "Exact maximum a posteriori estimation for binary images").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from sparsify_export.sparse.graph import GraphView
from sparsify_export.sparse.neighbours import Fused
from sparsify_export.sparse.observed import Shapes

BLOCKING = ("AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
"""Operators that ask for blocks of channels, where the channels fill them."""
FOLLOWING = (
    *("Add", "BatchNormalization", "Clip", "Concat", "HardSigmoid", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sum"),
    "Tanh",
)
"""Operators that take and give blocks where all of their inputs are in blocks."""
_LARGEST = 2**30
"""Of what flows: scipy counts in 32 bits."""
PLAIN, BLOCKS = 0, 1
"""The vertices that stand for the two sides."""


class Sides:
    """A minimum cut between what is plain and what is in blocks; vertices are numbers, costs are nanoseconds."""

    def __init__(self) -> None:
        self._vertices = 2
        self._edges: dict[tuple[int, int], float] = {}

    def vertex(self, *, plain: float = 0.0, blocks: float = 0.0) -> int:
        """Something that may be on either side, with its cost there."""
        one = self._vertices
        self._vertices += 1
        self._add(PLAIN, one, blocks)
        self._add(one, BLOCKS, plain)
        return one

    def value(self, maker: int, readers: tuple[int, ...], copy: float) -> None:
        """What one makes and others read costs a copy when any of them is on the other side, one for all of them."""
        out, back = self.vertex(), self.vertex()
        self._add(maker, out, copy)
        self._add(back, maker, copy)
        for reader in readers:
            self._add(out, reader, np.inf)
            self._add(reader, back, np.inf)

    def plain(self) -> frozenset[int]:
        """The vertices on the plain side; of equally cheap cuts, the one with the fewest."""
        ends = np.array(list(self._edges)).reshape(-1, 2)
        costs = np.array(list(self._edges.values()))
        total = costs[np.isfinite(costs)].sum() or 1.0
        units = np.where(np.isfinite(costs), np.rint(costs / total * _LARGEST), _LARGEST).astype(np.int32)
        size = (self._vertices, self._vertices)
        capacity = csr_array((units, (ends[:, 0], ends[:, 1])), shape=size)
        left = capacity - maximum_flow(capacity, PLAIN, BLOCKS).flow
        left.eliminate_zeros()
        reached = breadth_first_order(left, PLAIN, return_predecessors=False)
        return frozenset(reached.tolist())

    def _add(self, tail: int, head: int, cost: float) -> None:
        if cost > 0:
            self._edges[tail, head] = self._edges.get((tail, head), 0.0) + cost


class Layouts(Protocol):
    """What is asked of ONNX Runtime; `dense.DenseTimes`."""

    def blocked_ends(self, node: Any) -> tuple[bool, bool]:
        """Whether the node reads its input, and writes its output, in blocks of channels."""
        ...

    def in_blocks(self, node: Any) -> float:
        """Nanoseconds of a convolution whose neighbours are in blocks."""
        ...

    def change_of_layout(self, shape: tuple[int, ...]) -> float:
        """Nanoseconds of one copy of an image from one layout into the other."""
        ...


@dataclass(frozen=True)
class Gain:
    """A layer that would be replaced if its neighbours did not matter."""

    fused: Fused
    sparse_ns: float


def looked_at(view: GraphView) -> list[str]:
    """The values that may be copied from one layout into the other."""
    names: list[str] = []
    for index, node in enumerate(view.nodes):
        if view.is_standard(index, *BLOCKING, *FOLLOWING):
            names += [*node.input, node.output[0]]
    return [name for name in names if name and view.constant(name) is None]


def better_dense(view: GraphView, shapes: Shapes, layouts: Layouts, gains: Iterable[Gain]) -> frozenset[int]:
    """The nodes of those layers that are better left dense, since their neighbours are."""
    return _Graph(view, shapes, layouts).better_dense(list(gains))


class _Graph:
    """The nodes on their sides."""

    def __init__(self, view: GraphView, shapes: Shapes, layouts: Layouts) -> None:
        self._view = view
        self._shapes = shapes
        self._layouts = layouts
        self._sides = Sides()
        self._at: dict[int, int] = {}

    def better_dense(self, gains: list[Gain]) -> frozenset[int]:
        free = {gain.fused.layer.index: vertex for gain in gains if (vertex := self._either(gain)) is not None}
        if not free:
            return frozenset()
        for index in range(len(self._view.nodes)):
            if index not in self._at:
                self._at[index] = self._as_it_stands(index)
        for name, maker in self._makers().items():
            self._connect(name, maker)
        plain = self._sides.plain()
        return frozenset(index for index, vertex in free.items() if vertex not in plain)

    def _either(self, gain: Gain) -> int | None:
        """The vertex of a layer that is plain when sparse, in blocks when dense; None where it is plain anyway."""
        layer = gain.fused.layer
        reads, writes = self._ends(layer.index) if layer.window is not None else (False, False)
        if not reads and not writes:
            return None
        vertex = self._sides.vertex(plain=gain.sparse_ns, blocks=self._layouts.in_blocks(layer.node))
        self._at.update(dict.fromkeys(gain.fused.nodes, vertex))
        return vertex

    def _as_it_stands(self, index: int) -> int:
        if self._view.is_standard(index, *FOLLOWING):
            return self._sides.vertex()
        return BLOCKS if any(self._ends(index)) else PLAIN

    def _ends(self, index: int) -> tuple[bool, bool]:
        node = self._view.nodes[index]
        if not self._view.is_standard(index, *BLOCKING):
            return False, False
        read = [name for name in node.input if name and self._view.constant(name) is None]
        floats = all(self._shapes.is_float(name) for name in (*read, node.output[0]))
        return self._layouts.blocked_ends(node) if floats else (False, False)

    def _makers(self) -> Mapping[str, int]:
        """By value that some node reads, the side it comes from."""
        made = {name: self._at[index] for index, node in enumerate(self._view.nodes) for name in node.output if name}
        return {value.name: PLAIN for value in self._view.model.graph.input} | made

    def _connect(self, name: str, maker: int) -> None:
        readers = {self._reader(index, name) for index in self._view.consumers(name)}
        if self._view.is_seen_outside(name):
            readers.add(PLAIN)
        if apart := tuple(sorted(readers - {maker})):
            self._sides.value(maker, apart, self._copy(name))

    def _reader(self, index: int, name: str) -> int:
        """A convolution of few channels reads a plain image even where it writes blocks."""
        node = self._view.nodes[index]
        few = self._view.is_standard(index, "Conv") and name == node.input[0] and not self._ends(index)[0]
        return PLAIN if few else self._at[index]

    def _copy(self, name: str) -> float:
        shape = self._shapes.first(name)
        # Blocks are for images of two spatial axes alone.
        return 0.0 if shape is None or len(shape) != 4 else self._layouts.change_of_layout(shape)
