"""What a selection will do, from shapes alone: who competes with whom for how many places, and what is left dense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation, allocate, apportion, check_sparsity
from sparsify.masks.block import block_misfit
from sparsify.masks.nm import nm_misfit
from sparsify.masks.overrides import LEFT_DENSE, check_overrides, override_of, overriding_glob
from sparsify.masks.unstructured import removed_count
from sparsify.recipe.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that compete with each other, and how many units (weights or blocks) they keep together."""

    names: tuple[str, ...]
    kept: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Groups of layers to select in, none for n:m where every group of m is its own; and why others stay dense."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]
    skipped: dict[str, str]


def require_some(todo: Plan, pattern: Pattern) -> None:
    """Refuse a plan by which nothing would be removed.

    Raises:
        UsageError: The pattern fits no layer, or overrides leave all of them; the message says why of one.
    """
    if not todo.names and todo.skipped:
        name, why = next(iter(todo.skipped.items()))
        more = f", and {len(todo.skipped) - 1} more" if len(todo.skipped) > 1 else ""
        raise UsageError(
            f"pattern: expected one that fits a layer, got {pattern}, which fits none ({name} {why}{more}); choose "
            "another, or leave fewer layers dense"
        )


def plan(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    pattern: Pattern,
    sparsity: float | None,
    allocation: Allocation,
    overrides: Mapping[str, float],
    axes: Mapping[str, int],
) -> Plan:
    """Check what was asked for and count it out; the arguments are those of `select`, with shapes for scores.

    Raises:
        UsageError: the pattern is `channel`, a sparsity cannot be had, or an override matches nothing.
    """
    _check(pattern, sparsity, overrides)
    check_overrides(sorted(shapes), overrides)
    reasons = {name: _dense_because(name, shapes[name], pattern, overrides, axes) for name in sorted(shapes)}
    skipped = {name: reason for name, reason in reasons.items() if reason is not None}
    rest = {name: shapes[name] for name in reasons if name not in skipped}
    if pattern.kind == "nm":
        return Plan(tuple(rest), (), skipped)
    unit = pattern.rows * pattern.cols if pattern.kind == "block" else 1
    return Plan(tuple(rest), _groups(rest, unit, check_sparsity(sparsity), allocation, overrides), skipped)


def _groups(
    shapes: Mapping[str, tuple[int, ...]],
    unit: int,
    sparsity: float,
    allocation: Allocation,
    overrides: Mapping[str, float],
) -> tuple[Group, ...]:
    """Counts in units of `unit` weights; layers with an override are always alone."""
    units = {name: math.prod(shape) // unit for name, shape in shapes.items()}
    own = {name: number for name in shapes if (number := override_of(name, overrides)) is not None}
    free = {name: shape for name, shape in shapes.items() if name not in own}
    groups = [Group((name,), _kept(units[name], number)) for name, number in own.items()]
    total = sum(units[name] for name in free)
    if not free:
        return tuple(groups)
    if allocation == "global":
        return (*groups, Group(tuple(free), _kept(total, sparsity)))
    if allocation == "uniform":
        return (*groups, *(Group((name,), _kept(units[name], sparsity)) for name in free))
    densities = {name: 1 - share for name, share in allocate(free, sparsity, "erk", {}).items()}
    counts = apportion({name: units[name] for name in free}, densities, _kept(total, sparsity))
    return (*groups, *(Group((name,), counts[name]) for name in free))


def _kept(units: int, sparsity: float) -> int:
    return units - removed_count(units, sparsity)


def _dense_because(
    name: str, shape: tuple[int, ...], pattern: Pattern, overrides: Mapping[str, float], axes: Mapping[str, int]
) -> str | None:
    if override_of(name, overrides) == 0:
        return f"{LEFT_DENSE} {overriding_glob(name, overrides)!r}: 0"
    if pattern.kind == "nm":
        return nm_misfit(shape, pattern.m, axes.get(name, 1))
    return block_misfit(shape, pattern, axes.get(name, 1)) if pattern.kind == "block" else None


def _check(pattern: Pattern, sparsity: float | None, overrides: Mapping[str, float]) -> None:
    if pattern.kind == "channel":
        raise UsageError(
            "pattern channel: expected one that a mask can hold, got channels, which are removed physically; "
            "use sparsify.channels, or write unstructured, n:m or block:RxC"
        )
    if pattern.sparsity is None:
        check_sparsity(sparsity)
        return
    asked = [number for number in overrides.values() if number != 0]
    for number in asked if sparsity is None else [sparsity, *asked]:
        if abs(number - pattern.sparsity) > 1e-9:
            raise UsageError(
                f"sparsity: expected {pattern.sparsity:g} with pattern {pattern}, got {number}; "
                "leave it out, or use another pattern"
            )
