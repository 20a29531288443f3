"""How much of each layer is removed, where a rule says so beforehand: uniform, ERK, and overrides by glob.

Global allocation is not here: it falls out of the scores' competition, in `select.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from sparsify.errors import UsageError
from sparsify.masks.overrides import check_overrides, override_of

Allocation = Literal["global", "uniform", "erk"]


def allocate(
    shapes: Mapping[str, Sequence[int]],
    sparsity: float,
    how: Literal["uniform", "erk"],
    overrides: Mapping[str, float],
) -> dict[str, float]:
    """Sparsity of each layer, in order of name.

    Layers with an override have its sparsity; the others together have `sparsity`, as real numbers before rounding.

    Args:
        shapes: parameter name -> shape.
        sparsity: fraction of the weights without an override to remove, from 0 to below 1.
        how: `uniform` gives each layer the same; `erk` is Erdős-Rényi-Kernel (Evci et al. 2020, arXiv 1911.11134,
            section 3): density proportional to the sum of the shape over its product, clipped at 1.
        overrides: glob over layers or their weights -> sparsity; the longest match wins, 0 leaves a layer dense.

    Raises:
        UsageError: a sparsity outside [0, 1), or an override that matches no layer.
    """
    check_sparsity(sparsity)
    names = sorted(shapes)
    check_overrides(names, overrides)
    own = {name: number for name in names if (number := override_of(name, overrides)) is not None}
    rest = [name for name in names if name not in own]
    if how == "uniform":
        ruled = dict.fromkeys(rest, sparsity)
    else:
        ruled = {name: 1 - density for name, density in _erk({n: shapes[n] for n in rest}, 1 - sparsity).items()}
    return {name: own[name] if name in own else ruled[name] for name in names}


def _erk(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, float]:
    """Densities min(1, ε r) with r = sum(shape) / prod(shape), where ε makes the whole have `density`.

    Each round solves for ε over the layers not yet clipped. ε only grows, so what is clipped once stays clipped.
    """
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    r = {name: sum(shape) / max(size[name], 1) for name, shape in shapes.items()}
    clipped: set[str] = set()
    while True:
        free = [name for name in shapes if name not in clipped]
        room = density * sum(size.values()) - sum(size[name] for name in clipped)
        mass = sum(r[name] * size[name] for name in free)
        epsilon = room / mass if mass > 0 else 0.0
        over = {name for name in free if epsilon * r[name] > 1}
        if not over:
            return {name: 1.0 if name in clipped else epsilon * r[name] for name in shapes}
        clipped |= over


def apportion(sizes: Mapping[str, int], densities: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole counts to keep, `total` of them, nearest to `densities` by largest remainder; ties go to the first name.

    No layer is left without any, as long as `total` is at least the number of layers.
    """
    quotas = {name: min(size * densities[name], size) for name, size in sizes.items()}
    kept = {name: math.floor(quota) for name, quota in quotas.items()}
    while (short := total - sum(kept.values())) != 0:
        step = 1 if short > 0 else -1
        movable = [name for name in sizes if 0 <= kept[name] + step <= sizes[name]]
        order = sorted(movable, key=lambda name: -step * (quotas[name] - kept[name]))
        for name in order[: abs(short)]:
            kept[name] += step
    for name in [name for name, size in sizes.items() if size and kept[name] == 0]:
        richest = max(kept, key=lambda name: kept[name])
        if kept[richest] > 1:
            kept[richest], kept[name] = kept[richest] - 1, 1
    return kept


def check_sparsity(sparsity: float | None) -> float:
    """The sparsity, where it is one.

    Raises:
        UsageError: it is none, or outside [0, 1).
    """
    if sparsity is None or not 0 <= sparsity < 1:
        expected = "expected a fraction from 0 to below 1"
        raise UsageError(f"sparsity: {expected}, got {sparsity}; 0.9 removes 90% of the weights")
    return sparsity
