"""Inputs made up for a graph: right names, types and shapes, values that are valid whatever they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify_export.onnx_check import Dim, Input, inputs_of

Shape = tuple[int, ...]


def shapes_for(
    paths: Sequence[Path], batch: int | None, given: Mapping[str, Shape]
) -> tuple[tuple[Input, ...], dict[str, Shape]]:
    """The inputs that all of `paths` share, and the shape to feed each.

    Args:
        paths: ONNX files; the first says which inputs there are, the others must take the same.
        batch: Size of a symbolic first axis; None takes `given`'s, or 1.
        given: Whole shapes by input name, needed where an axis after the first is symbolic.

    Raises:
        UsageError: The files differ in inputs, or a shape is missing or does not fit; names the input and the flag.
    """
    first, inputs = paths[0], inputs_of(paths[0])
    shapes = shapes_of(first, inputs, batch, given)
    for other in paths[1:]:
        _require_same(first, inputs, other, inputs_of(other), shapes)
    return inputs, shapes


def shapes_of(path: Path, inputs: Sequence[Input], batch: int | None, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """As `shapes_for`, for one file whose inputs are known."""
    if unknown := [name for name in given if name not in {source.name for source in inputs}]:
        names = ", ".join(source.name for source in inputs)
        raise UsageError(f"--shape {unknown[0]}=...: expected an input of {path} ({names}), got {unknown[0]!r}")
    return {source.name: _shape(path, source, batch, given.get(source.name)) for source in inputs}


def make_feed(inputs: Sequence[Input], shapes: Mapping[str, Shape], seed: int) -> dict[str, NDArray[Any]]:
    """Standard normal floats; integers and booleans of 0 and 1, which are valid indices, types and masks alike."""
    rng = np.random.default_rng(seed)
    feed: dict[str, NDArray[Any]] = {}
    for source in inputs:
        shape = shapes[source.name]
        values = rng.standard_normal(shape) if source.dtype.kind == "f" else rng.integers(0, 2, shape)
        feed[source.name] = np.asarray(values).astype(source.dtype)
    return feed


def _shape(path: Path, source: Input, batch: int | None, given: Shape | None) -> Shape:
    if given is not None and len(given) != len(source.shape):
        raise UsageError(
            f"--shape {source.name}={_text(given)}: expected {len(source.shape)} axes, as in {path}: {source}"
        )
    return tuple(
        _size(path, source, axis, dim, batch, None if given is None else given[axis])
        for axis, dim in enumerate(source.shape)
    )


def _size(path: Path, source: Input, axis: int, dim: Dim, batch: int | None, given: int | None) -> int:
    """The size of one axis, from the graph, the batch, or the shape given."""
    if isinstance(dim, int):
        if given not in (None, dim):
            raise UsageError(f"--shape {source.name}: axis {axis}: expected {dim}, which {path} fixes, got {given}")
        if axis == 0 and batch not in (None, dim):
            raise UsageError(
                f"--batch {batch}: {path} fixes the first axis of {source.name} at {dim}; leave --batch out, or export "
                "with a dynamic batch axis"
            )
        return dim
    if axis == 0 and batch is not None:
        return batch
    if given is not None:
        return given
    if axis == 0:
        return 1
    example = "x".join(str(size) if isinstance(size, int) else "N" for size in source.shape)
    raise UsageError(
        f"{path}: input {source.name!r}: axis {axis} ({dim or '?'}) has no size; give --shape {source.name}={example}"
    )


def _require_same(
    first: Path, inputs: Sequence[Input], other: Path, others: Sequence[Input], shapes: Mapping[str, Shape]
) -> None:
    theirs = {source.name: source for source in others}
    same = theirs.keys() == shapes.keys() and all(theirs[source.name].dtype == source.dtype for source in inputs)
    if not same or not all(_fits(theirs[name].shape, shape) for name, shape in shapes.items()):
        raise UsageError(
            f"expected networks that take the same inputs, got {first}: {_listed(inputs)}; "
            f"and {other}: {_listed(others)}; only networks fed alike can be compared"
        )


def _fits(dims: Sequence[Dim], shape: Shape) -> bool:
    return len(dims) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def _listed(inputs: Sequence[Input]) -> str:
    return ", ".join(map(str, inputs)) or "no inputs"


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
