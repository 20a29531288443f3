"""Shapes of intermediate values, seen when ONNX Runtime runs the graph: inference leaves most of them open.

Where the first axis of the inputs has no fixed size the graph is run for two sizes, so that a value that is merely
broadcast along it is not taken for one that has it; and so for other open axes that are given the size 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from sparsify_export.feed import Shape, make_feed, shapes_of
from sparsify_export.onnx_check import Input
from sparsify_export.pruning.running import run
from sparsify_export.runtimes.onnxrt import OnnxRuntime

Feeds = Sequence[Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Shapes:
    """By value, its shape in every run, and its element type."""

    seen: Mapping[str, tuple[tuple[int, ...], ...]]
    dtypes: Mapping[str, str]
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    """By value of one element, that element in every run."""

    def first(self, name: str) -> tuple[int, ...] | None:
        """The shape in the first run: the smallest batch."""
        runs = self.seen.get(name)
        return runs[0] if runs else None

    def rank(self, name: str) -> int | None:
        """Its number of axes."""
        shape = self.first(name)
        return None if shape is None else len(shape)

    def equal(self, a: str, b: str) -> bool:
        """Whether two values had the same shape in every run."""
        return a in self.seen and self.seen[a] == self.seen.get(b)

    def number(self, name: str) -> float | None:
        """The element of a value that had only this one in every run."""
        runs = set(self.numbers.get(name, ()))
        return runs.pop() if len(runs) == 1 else None

    def is_float(self, name: str) -> bool:
        """Whether it holds float32."""
        return self.dtypes.get(name) == "float32"


def made_up_feeds(path: Path, inputs: Sequence[Input], given: Mapping[str, Shape], seed: int) -> Feeds:
    """Made-up inputs, of the batch that the graph fixes, or of the batch given (1).

    Where it is open, they come with a batch two larger, too; where another open axis is given the size 1, with 3 there.

    Raises:
        UsageError: An axis after the first has no size in the graph and none in `given`; names the input.
    """
    open_ended = [source.name for source in inputs if source.shape and not isinstance(source.shape[0], int)]
    batch = next((given[name][0] for name in open_ended if given.get(name)), 1) if open_ended else None
    longer = {source.name: _longer(source, given[source.name]) for source in inputs if source.name in given}
    kinds = [(batch, given)]
    kinds += [(batch + 2, given)] if batch is not None else []
    kinds += [(batch, longer)] if longer != given else []
    return [make_feed(inputs, _shapes(path, inputs, *kind), seed) for kind in kinds]


def _shapes(path: Path, inputs: Sequence[Input], batch: int | None, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Of every input; the batch is that of those whose first axis is open."""
    shapes: dict[str, Shape] = {}
    for source in inputs:
        fixed = not source.shape or isinstance(source.shape[0], int)
        only = {source.name: given[source.name]} if source.name in given else {}
        shapes |= shapes_of(path, [source], None if fixed else batch, only)
    return shapes


def _longer(source: Input, shape: Shape) -> Shape:
    """With 3 for every 1 on an open axis after the first."""
    sizes = zip(source.shape, shape, strict=False)  # as many as there are axes, or it is refused later
    return tuple(
        3 if axis and size == 1 and not isinstance(dim, int) else size for axis, (dim, size) in enumerate(sizes)
    )


def observe(model: onnx.ModelProto, path: Path, names: Iterable[str], feeds: Feeds) -> Shapes:
    """Run the graph on each feed and look at the values called `names`.

    Args:
        model: The graph; its weights may lie in files beside `path`.
        path: Where it was read from.
        names: Values of it, inputs among them or not.
        feeds: Whole inputs.

    Raises:
        UsageError: ONNX Runtime fails on a feed.
        CorruptError: ONNX Runtime cannot load the graph.
        UnavailableError: ONNX Runtime is not installed.
    """
    made = {name for node in model.graph.node for name in node.output}
    present = {value.name for value in model.graph.output}
    wanted = [name for name in dict.fromkeys(names) if name in made and name not in present]
    asked = onnx.ModelProto(graph=onnx.GraphProto(output=[onnx.ValueInfoProto(name=name) for name in wanted]))
    # Two protobuf messages one after the other are one, whose lists are joined: no second copy of the weights.
    probed = model.SerializeToString() + asked.SerializeToString()
    seen: dict[str, list[tuple[int, ...]]] = {}
    dtypes: dict[str, str] = {}
    numbers: dict[str, list[float]] = {}
    with OnnxRuntime(probed, source=path) as runtime:
        for feed in feeds:
            for name, array in {**feed, **run(runtime, feed, path)}.items():
                seen.setdefault(name, []).append(tuple(array.shape))
                dtypes[name] = str(array.dtype)
                if array.size == 1 and array.dtype.kind == "f":
                    numbers.setdefault(name, []).append(float(array.reshape(())))
    tuples = {name: tuple(runs) for name, runs in numbers.items() if len(runs) == len(feeds)}
    return Shapes({name: tuple(shapes) for name, shapes in seen.items()}, dtypes, tuples)
