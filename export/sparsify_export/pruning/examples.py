"""Examples for a graph's inputs: a person's own, from NumPy files, or made up; fed a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.data.npz_archive import open_npz
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify_export.feed import Shape, make_feed, shapes_of
from sparsify_export.onnx_check import Input

BATCH = 8
"""Examples fed at once where the graph takes any number."""
MADE_UP = 32
"""Examples made up where none are given."""
_UNNAMED = "arr_0"
"""What NumPy calls an array that was saved without a name."""


@dataclass(frozen=True)
class Examples:
    """Arrays by input name, whose first axis is the example."""

    origin: Literal["calibration", "made up"]
    count: int
    """Examples that are fed; a remainder that fills no batch of a graph of fixed batch is left out."""
    batch: int
    arrays: Mapping[str, NDArray[Any]]
    whole: frozenset[str]
    """Inputs that have no axis of examples and are fed as they are every time."""

    def feeds(self) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """How many examples, and what to feed, batch by batch."""
        for start in range(0, self.count, self.batch):
            stop = min(start + self.batch, self.count)
            yield (
                stop - start,
                {name: array if name in self.whole else array[start:stop] for name, array in self.arrays.items()},
            )


def given_examples(given: Path | NDArray[Any], inputs: Sequence[Input]) -> Examples:
    """The examples in an `.npz` of arrays named as the inputs, or of one array without a name, or `.npy`.

    An array (N, ...) is taken as such a file's would be.

    Raises:
        InputOutputError: The file is absent or cannot be read.
        CorruptError: It is damaged, holds Python objects, or numbers that are not finite.
        UsageError: An input has no array, or one of another type, shape or number of examples, or all are zeros.
    """
    path = given if isinstance(given, Path) else Path("calibration data")
    found = _read(path, inputs) if isinstance(given, Path) else _only_input(given, inputs)
    arrays = {source.name: _fitted(path, source, found[source.name]) for source in inputs}
    whole, batch = _batching(inputs)
    counts = {name: len(array) for name, array in arrays.items() if name not in whole}
    if not counts or len(set(counts.values())) > 1 or not min(counts.values()):
        raise UsageError(f"{path}: expected the same number of examples for every input, at least 1, got {counts}")
    if not any(np.any(array) for array in arrays.values()):
        raise UsageError(f"{path}: expected examples as the network is fed, got zeros alone; no score comes of them")
    count = min(counts.values())
    used = count if batch is None else count - count % batch
    if not used:
        raise UsageError(f"{path}: expected at least {batch} examples, which the graph takes at once, got {count}")
    return Examples("calibration", used, batch or BATCH, arrays, whole)


def made_up_examples(path: Path, inputs: Sequence[Input], shapes: Mapping[str, Shape], seed: int) -> Examples:
    """Standard normal floats, integers and booleans of 0 and 1.

    Args:
        path: The graph, for messages.
        inputs: Its inputs.
        shapes: Whole shapes by input name, needed where an axis after the first has no size.
        seed: Draws the values.

    Raises:
        UsageError: An axis has no size; names the input.
    """
    whole, batch = _batching(inputs)
    count = MADE_UP if batch is None else batch
    if batch is None:
        sizes = {
            source.name: shapes_of(path, [source], None if source.name in whole else count, _only(shapes, source.name))
            for source in inputs
        }
    else:
        sizes = {source.name: shapes_of(path, [source], None, _only(shapes, source.name)) for source in inputs}
    fed = {name: found[name] for name, found in sizes.items()}
    return Examples("made up", count, batch or BATCH, make_feed(inputs, fed, seed), whole)


def _only(shapes: Mapping[str, Shape], name: str) -> dict[str, Shape]:
    """The shape given for one input, whose first size is the batch's and not ours to fix."""
    return {name: shapes[name]} if name in shapes else {}


def _batching(inputs: Sequence[Input]) -> tuple[frozenset[str], int | None]:
    """Inputs without an axis of examples, and the batch that the graph fixes, or None where it takes any."""
    open_ended = [source for source in inputs if source.shape and not isinstance(source.shape[0], int)]
    if open_ended:
        return frozenset(source.name for source in inputs if source not in open_ended), None
    sizes = [source.shape[0] for source in inputs if source.shape]
    fixed = [size for size in sizes if isinstance(size, int)]
    return frozenset(source.name for source in inputs if not source.shape), fixed[0] if fixed else 1


def _read(path: Path, inputs: Sequence[Input]) -> dict[str, NDArray[Any]]:
    """By input name, whatever the file calls its arrays."""
    if not path.is_file():
        raise InputOutputError(f"{path}: expected calibration data, an .npy or .npz file, found none; check the path")
    if path.suffix.lower() == ".npy":
        if len(inputs) != 1:
            raise UsageError(f"{path}: expected an .npz with {_names(inputs)}, got one array; save them by name")
        return {inputs[0].name: _read_npy(path)}
    with open_npz(path) as archive:
        if len(inputs) == 1 and archive.names == (_UNNAMED,):
            return {inputs[0].name: archive.read(_UNNAMED)}
        if missing := [source.name for source in inputs if source.name.lower() not in archive.names]:
            raise UsageError(
                f"{path}: expected arrays named {_names(inputs)}, got {', '.join(archive.names) or 'none'}; "
                f"{missing[0]!r} is missing"
            )
        return {source.name: archive.read(source.name.lower()) for source in inputs}


def _only_input(array: NDArray[Any], inputs: Sequence[Input]) -> dict[str, NDArray[Any]]:
    if len(inputs) != 1:
        raise UsageError(
            f"calibration data: expected a graph of one input, got {_names(inputs)}; give an .npz by those names"
        )
    return {inputs[0].name: array}


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptError(f"{path}: expected a NumPy array of plain numbers, got: {error}") from error
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error


def _fitted(path: Path, source: Input, array: NDArray[Any]) -> NDArray[Any]:
    """The array in the input's type; its shape is the input's but for the first axis and those without a size."""
    where = f"{path}: the array for {source}"
    kinds = "iu" if source.dtype.kind in "iu" else source.dtype.kind
    if array.dtype.kind not in kinds:
        raise UsageError(f"{where}: expected {source.dtype}, got {array.dtype}; convert it as the network is fed")
    if array.ndim != len(source.shape):
        raise UsageError(f"{where}: expected {len(source.shape)} axes, got shape {array.shape}")
    for axis, (dim, size) in enumerate(zip(source.shape, array.shape, strict=True)):
        if axis and isinstance(dim, int) and size != dim:
            raise UsageError(f"{where}: expected {dim} on axis {axis}, got shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CorruptError(f"{where}: expected finite numbers, got some that are not")
    return array if array.dtype == source.dtype else array.astype(source.dtype)


def _names(inputs: Sequence[Input]) -> str:
    return ", ".join(source.name for source in inputs)
