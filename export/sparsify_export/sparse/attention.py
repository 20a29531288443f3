"""Attention in a graph: softmax(scale Q K^T + mask) V, known by what it computes and not by how an exporter wrote it.

Exporters bring heads into place by transposing and reshaping in many ways, some of them with sizes that are computed at
run time. What such nodes do together is found out by sending the numbers of the elements through them, in the sizes
that were seen when the graph ran.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify_export.sparse.attention_core import Core, Factor, find_cores, scaled_by
from sparsify_export.sparse.graph import GraphView, attributes
from sparsify_export.sparse.observed import Shapes

MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that change where elements lie, and nothing else."""
_MOST_MOVES = 8

Sizes = tuple[int, ...]
Elements = NDArray[np.int64]


@dataclass(frozen=True)
class Attention:
    """An attention that was found. Heads lie side by side on the last axis of three, or apart on the second of four."""

    name: str
    q: str
    """Heads side by side or apart, as of k and of v."""
    k: str
    v: str
    mask: str
    """What is added to the scores; empty where nothing is."""
    heads: int
    scale: float
    output: str
    heads_first: bool
    """Whether heads lie apart in the output."""
    tokens: int
    """Queries of the first run."""
    depth: int
    """Features of a head's queries and keys."""
    nan_is_zero: bool
    """Whether weights that are NaN are replaced by 0."""
    products: tuple[int, int]
    """The nodes of Q K^T and of the product with V."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the operator reads."""
        return (self.q, self.k, self.v, *([self.mask] if self.mask else []))


def looked_at(view: GraphView) -> list[str]:
    """The values whose shapes `find_attention` asks for."""
    names: list[str] = []
    for core in find_cores(view):
        ends = [one for value in (core.q, core.k_turned, core.v) for one in _origins(view, value)]
        ends += _destinations(view, core.output)
        factors = (*core.factors, *(factor for one in ends for factor in one.factors))
        names += [core.mask, *(one.name for one in ends), *(factor.name for factor in factors)]
    return [name for name in names if name and view.constant(name) is None]


def find_attention(view: GraphView, shapes: Shapes, gone: AbstractSet[str] = frozenset()) -> list[Attention]:
    """Every attention of the graph whose scores nothing else sees, in the graph's order.

    Values that are `gone` are inside other operators: no attention reads them.
    """
    return [found for core in find_cores(view) if (found := _Finder(view, shapes, core, gone).found()) is not None]


@dataclass(frozen=True)
class _Moved:
    """A value, and what lies between it and another: nodes that move its elements, and factors."""

    name: str
    moves: tuple[int, ...] = ()
    factors: tuple[Factor, ...] = ()


def _origins(view: GraphView, value: str) -> list[_Moved]:
    """What a value is made from, the value itself first; moves in the order in which they are done."""
    found = [_Moved(value)]
    while len(found) <= _MOST_MOVES and (index := view.producer(found[-1].name)) is not None:
        last = found[-1]
        if scaled := scaled_by(view, index):
            found.append(_Moved(scaled[0], last.moves, (*last.factors, scaled[1])))
        elif view.is_standard(index, *MOVES):
            found.append(_Moved(str(view.nodes[index].input[0]), (index, *last.moves), last.factors))
        else:
            break
    return found


def _destinations(view: GraphView, value: str) -> list[_Moved]:
    """What is made from a value alone, the value itself first."""
    found = [_Moved(value)]
    while len(found) <= _MOST_MOVES and (index := view.sole_consumer(found[-1].name)) is not None:
        if not view.is_standard(index, *MOVES) or view.nodes[index].input[0] != found[-1].name:
            break
        found.append(_Moved(str(view.nodes[index].output[0]), (*found[-1].moves, index)))
    return found


class _Finder:
    """One core with its surroundings."""

    def __init__(self, view: GraphView, shapes: Shapes, core: Core, gone: AbstractSet[str]) -> None:
        self._view = view
        self._shapes = shapes
        self._core = core
        self._gone = gone

    def found(self) -> Attention | None:
        core, shapes = self._core, self._shapes
        names = core.q, core.k_turned, core.v
        if core.mask in self._gone or not all(shapes.is_float(name) for name in names):  # constants are not among them
            return None
        sizes = list(zip(*(shapes.seen[name] for name in names), strict=True))
        if not all(_fit(*one) for one in sizes) or not self._mask_fits(sizes):
            return None
        q, v = self._origin(core.q, (0, 1, 2, 3)), self._origin(core.v, (0, 1, 2, 3))
        k = self._origin(core.k_turned, (0, 1, 3, 2))
        heads = {first[1] for first, _, _ in sizes}
        if len(heads) != 1 or q is None or k is None or v is None or v.factors:
            return None
        scale = self._scale((*core.factors, *q.factors, *k.factors), sizes[0][0][3])
        if scale is None:
            return None
        output = self._destination([(*first[:3], last[3]) for first, _, last in sizes])
        return Attention(
            name=core.name,
            q=q.name,
            k=k.name,
            v=v.name,
            mask=core.mask,
            heads=heads.pop(),
            scale=scale,
            output=output or core.output,
            heads_first=not output,
            tokens=sizes[0][0][2],
            depth=sizes[0][0][3],
            nan_is_zero=core.nan_is_zero,
            products=core.products,
        )

    def _scale(self, factors: Sequence[Factor], depth: int) -> float | None:
        """The product; where sizes are in it, only the usual one, which is of a size that the weights fix."""
        scale = 1.0
        for factor in factors:
            number = self._view.scalar(factor.name) or self._shapes.number(factor.name)
            if not number:
                return None
            scale *= 1 / number if factor.inverse else number
        constant = all(self._view.scalar(factor.name) for factor in factors)
        return scale if constant or math.isclose(scale, depth**-0.5, rel_tol=1e-5) else None

    def _mask_fits(self, sizes: Sequence[tuple[Sizes, Sizes, Sizes]]) -> bool:
        """Whether the mask has a number for each key, and does not make the scores any larger."""
        mask = self._core.mask
        if not mask:
            return True
        constant = self._view.constant(mask)
        if constant is None:
            seen, is_float = self._shapes.seen.get(mask, ()), self._shapes.is_float(mask)
        else:
            seen, is_float = (constant.shape,) * len(sizes), constant.dtype == np.float32
        fits = (_broadcasts(one, (*q[:3], k[3])) for one, (q, k, _) in zip(seen, sizes, strict=True))
        return is_float and all(fits)

    def _origin(self, value: str, order: Sizes) -> _Moved | None:
        """The furthest value that this one is only another view of: (batch, heads, tokens, features) in `order`."""
        origins = [
            one
            for one in _origins(self._view, value)
            if self._view.constant(one.name) is None and one.name not in self._gone
        ]
        return next((one for one in reversed(origins) if self._is_origin(one, value, order)), None)

    def _is_origin(self, origin: _Moved, value: str, order: Sizes) -> bool:
        if not self._shapes.is_float(origin.name):
            return False
        seen, wanted = self._shapes.seen[origin.name], self._shapes.seen[value]
        for run, (given, turned) in enumerate(zip(seen, wanted, strict=True)):
            batch, heads, tokens, features = (turned[axis] for axis in order)
            elements = _elements(given)
            if given == (batch, tokens, heads * features):
                apart = _apart(elements, heads)
            elif given == (batch, heads, tokens, features):
                apart = elements
            else:
                return False
            if not np.array_equal(self._moved(elements, origin.moves, run), apart.transpose(order)):
                return False
        batch, heads, tokens, features = (wanted[0][axis] for axis in order)
        longer = _elements((batch, heads, 2 * tokens, features))
        merged = len(seen[0]) == 3
        moved = self._moved_at_any_size(_together(longer) if merged else longer, origin.moves)
        return moved is None or np.array_equal(moved, longer.transpose(order))

    def _destination(self, sizes: Sequence[Sizes]) -> str:
        """The value that has the heads side by side, (batch, tokens, heads * features); empty where there is none."""
        for one in _destinations(self._view, self._core.output):
            merged = tuple((batch, tokens, heads * features) for batch, heads, tokens, features in sizes)
            if self._shapes.seen.get(one.name) == merged and all(
                np.array_equal(_apart(self._moved(_elements(size), one.moves, run), size[1]), _elements(size))
                for run, size in enumerate(sizes)
            ):
                batch, heads, tokens, features = sizes[0]
                longer = _elements((batch, heads, 2 * tokens, features))
                moved = self._moved_at_any_size(longer, one.moves)
                return one.name if moved is None or np.array_equal(moved, _together(longer)) else ""
        return ""

    def _moved(self, elements: Elements, moves: Iterable[int], run: int) -> Elements:
        """What the moves make of the elements in one of the runs."""
        for index in moves:
            node = self._view.nodes[index]
            if node.op_type == "Transpose":
                elements = elements.transpose(attributes(node).get("perm"))
            else:
                elements = elements.reshape(self._shapes.seen[str(node.output[0])][run])
        return elements

    def _moved_at_any_size(self, elements: Elements, moves: Iterable[int]) -> Elements | None:
        """What the moves make of elements of a size that was not seen, where the graph takes others.

        A sequence of one window is a whole one only at the size seen. None where no size is open, or this one is not
        taken, or a size is computed that cannot be told.
        """
        if not self._view.takes_any_size:
            return None
        moved: Elements | None = elements
        for index in moves:
            moved = self._view.computed(index, {str(self._view.nodes[index].input[0]): moved} | self._shape(index))
            if moved is None:
                return None
        return moved

    def _shape(self, index: int) -> dict[str, Elements]:
        """By name, the shape that a Reshape is given, where one number alone is computed: the one that follows."""
        node = self._view.nodes[index]
        made = self._view.producer(node.input[1]) if node.op_type == "Reshape" else None
        if made is None or not self._view.is_standard(made, "Concat"):
            return {}
        parts = [self._view.constant(name) for name in self._view.nodes[made].input]
        shape = np.concatenate([np.array([-1]) if part is None else part for part in parts])
        one = sum(part is None for part in parts) == 1 and len(shape) == self._shapes.rank(node.output[0])
        return {str(node.input[1]): shape} if one else {}


def _apart(merged: Elements, heads: int) -> Elements:
    """(batch, tokens, heads * features) as (batch, heads, tokens, features)."""
    return merged.reshape(*merged.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _together(apart: Elements) -> Elements:
    """And back."""
    return apart.transpose(0, 2, 1, 3).reshape(apart.shape[0], apart.shape[2], -1)


def _elements(shape: Sizes) -> Elements:
    return np.arange(int(np.prod(shape))).reshape(shape)


def _fit(q: Sizes, k_turned: Sizes, v: Sizes) -> bool:
    """Whether they are (batch, heads, queries, depth), (batch, heads, depth, keys) and (batch, heads, keys, width)."""
    if not len(q) == len(k_turned) == len(v) == 4:
        return False
    # A size of one would hide in which order the axes lie.
    together = q[:2] == k_turned[:2] == v[:2] and q[3] == k_turned[2] and k_turned[3] == v[2]
    return together and min(*q[1:], *v[2:]) > 1


def _broadcasts(shape: Sizes, to: Sizes) -> bool:
    if not shape or len(shape) > len(to) or shape[-1] != to[-1]:
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))
