"""Searched allocation: each layer's sparsity from what pruning that layer alone was measured to cost.

Minimise sum_l d_l(s_l) subject to sum_l n_l s_l = S sum_l n_l, where d_l(s) is the measured drop of the metric when
layer l alone is pruned to s, and n_l its weights. Lagrange's condition says that all layers stop at the same slope
d_l'(s_l) / n_l = λ. On the lower convex hulls of the measured points the solution is greedy: take the hulls'
segments, flattest first, until S is reached; the last one in part. Source: Shoham & Gersho 1988, Efficient Bit
Allocation for an Arbitrary Set of Quantizers, IEEE TASSP 36(9), section III.

That drops add up is an assumption: pruned together, layers may cost more or less. Measure the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sparsify.errors import UsageError
from sparsify.masks.allocate import check_sparsity

Curve = Mapping[float, float]
"""Sparsity of one layer -> drop of the metric, absolute; 0 at sparsity 0 is understood."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of one layer's hull."""

    slope: float
    name: str
    start: float
    end: float


def allocate_searched(drops: Mapping[str, Curve], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    """Sparsity of each layer for the least sum of drops; together they remove `sparsity` of all weights.

    Args:
        drops: layer -> what was measured; between points the drop is taken to be linear.
        sizes: layer -> its number of weights.
        sparsity: fraction of all these layers' weights to remove, from 0 to below 1.

    Returns:
        Layer -> sparsity, in order of name. At most one layer is between two points of its hull.

    Raises:
        UsageError: a sparsity is outside [0, 1), nothing was measured, or the measured sparsities do not reach so far.
    """
    check_sparsity(sparsity)
    for name in drops:
        if not drops[name] or not all(0 <= s < 1 for s in drops[name]):
            raise UsageError(
                f"searched: {name}: expected sparsities from 0 to below 1, got {sorted(drops[name])}; measure some"
            )
    total = sum(sizes[name] for name in drops)
    reach = sum(sizes[name] * max(drops[name]) for name in drops)
    left = sparsity * total
    if left > reach * (1 + 1e-12):
        raise UsageError(
            f"searched: expected measurements that reach sparsity {sparsity:g}, got {reach / max(total, 1):.4g} with "
            "every layer at its highest; measure the layers at higher sparsities"
        )
    found = dict.fromkeys(sorted(drops), 0.0)
    segments = [segment for name in drops for segment in _segments(name, drops[name], sizes[name])]
    for segment in sorted(segments, key=lambda each: (each.slope, each.name, each.start)):
        taken = min(segment.end - segment.start, left / sizes[segment.name])
        found[segment.name] = segment.end if taken == segment.end - segment.start else segment.start + taken
        left -= taken * sizes[segment.name]
        if left <= 0:
            break
    return found


def predicted_drop(drops: Mapping[str, Curve], sparsities: Mapping[str, float]) -> float:
    """The sum of drops that `allocate_searched` makes least, along each layer's hull.

    Raises:
        UsageError: a layer is asked for more than was measured of it.
    """
    return sum(_on_hull(name, lower_hull(drops[name]), sparsities[name]) for name in sparsities)


def lower_hull(curve: Curve) -> list[tuple[float, float]]:
    """The points (sparsity, drop) below which no line between two others runs, with (0, 0); ascending, convex."""
    hull: list[tuple[float, float]] = []
    for point in sorted(({0.0: 0.0} | dict(curve)).items()):
        while len(hull) >= 2 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def _segments(name: str, curve: Curve, size: int) -> list[_Segment]:
    hull = lower_hull(curve)
    return [
        _Segment((after[1] - before[1]) / ((after[0] - before[0]) * size), name, before[0], after[0])
        for before, after in pairwise(hull)
        if size > 0
    ]


def _on_hull(name: str, hull: list[tuple[float, float]], sparsity: float) -> float:
    for (s0, d0), (s1, d1) in pairwise(hull):
        if s0 <= sparsity <= s1:
            return d0 + (d1 - d0) * (sparsity - s0) / (s1 - s0)
    if sparsity == 0:
        return 0.0
    raise UsageError(f"searched: {name}: expected a sparsity up to the measured {hull[-1][0]:g}, got {sparsity:g}")
