"""A stored tensor as the matrix its node multiplies by: rearranged to (out, in, ...), and a mask of it put back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reshaped:
    """Read in the same order under another shape."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transposed:
    """Axes in another order: axis i of the result is axis `order[i]`."""

    order: tuple[int, ...]


View: TypeAlias = tuple[Reshaped | Transposed, ...]
"""Rearrangements, first to last. Each is one to one, so that a mask can go back."""


def seen(view: View, tensor: Tensor) -> Tensor:
    """The stored `tensor` as `view` shows it."""
    for step in view:
        tensor = tensor.reshape(step.shape) if isinstance(step, Reshaped) else tensor.permute(step.order)
    return tensor


def put_back(view: View, shown: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor of `shape` that `view` shows as `shown`: `seen` undone."""
    shapes = shapes_along(view, shape)
    for step, before in reversed(list(zip(view, shapes, strict=False))):
        if isinstance(step, Reshaped):
            shown = shown.reshape(before)
        else:
            shown = shown.permute([step.order.index(axis) for axis in range(len(step.order))])
    return shown


def shapes_along(view: View, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape before the first rearrangement, after it, and so on; ValueError where one does not fit."""
    shapes = [tuple(shape)]
    for step in view:
        last = shapes[-1]
        if isinstance(step, Reshaped):
            if math.prod(step.shape) != math.prod(last):
                raise ValueError(f"{list(last)} cannot be reshaped to {list(step.shape)}")
            shapes.append(step.shape)
        else:
            if sorted(step.order) != list(range(len(last))):
                raise ValueError(f"axes {list(step.order)} are no order of the axes of {list(last)}")
            shapes.append(tuple(last[axis] for axis in step.order))
    return shapes


def swapped(axes: int) -> Transposed:
    """The last two of `axes` axes exchanged."""
    return Transposed((*range(axes - 2), axes - 1, axes - 2))
