"""An ONNX file of any origin, rewritten into a folder with a report: `sparsify export --target sparse-cpu`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.errors import UsageError
from sparsify.recipe.spec import SparseSpec
from sparsify.store.atomic import write_json
from sparsify_export.feed import Shape
from sparsify_export.file_export import REPORT
from sparsify_export.latency import MODEL
from sparsify_export.onnx_check import Input, inputs_of
from sparsify_export.pruning.examples import given_examples
from sparsify_export.sparse.observed import Feeds, made_up_feeds
from sparsify_export.sparse.passes import sparsify
from sparsify_export.targets import Target

_MOST = 64
"""Examples, of those given, that the outputs are compared on."""


def export_sparse(
    source: Path,
    folder: Path,
    *,
    target: Target,
    options: SparseSpec,
    shapes: Mapping[str, Shape],
    examples: Path | None = None,
) -> dict[str, Any]:
    """Write `model.onnx` and `report.json` into the existing `folder`; returns the report.

    Args:
        source: An ONNX file.
        folder: Where to write.
        target: Named in the report.
        options: What the pass is asked for.
        shapes: Whole shapes by input name, which the operators are planned for; needed where an axis after the first
            has no size.
        examples: `.npz` of arrays by input name, or `.npy` of one: real inputs to compare the graphs on.

    Raises:
        InputOutputError: A file is absent, or cannot be read or written.
        UsageError: An input has no size, or the examples do not fit.
        UnavailableError: sparsify-kernels or ONNX Runtime is not here.
        CorruptError: The file is no valid ONNX, or the sparse graph's outputs are not the dense one's.
    """
    inputs = inputs_of(source)
    if examples is None:
        feeds, more, origin = made_up_feeds(source, inputs, shapes, seed=0), (), "made up"
    else:
        feeds, more = _given(examples, inputs, shapes)
        origin = f"given: {examples.name}"
    done = sparsify(source, folder / MODEL, options=options, feeds=feeds, more=more, inputs=origin)
    found = done.to_json()
    report = {
        "target": target.name,
        "status": done.plan.summary,
        "missing": "",
        "inputs": [str(one) for one in inputs],
        "precision": options.precision,
        "min_sparsity": options.min_sparsity,
        "planned_for": {name: list(array.shape) for name, array in feeds[0].items()},
        "file_bytes": found["file_bytes"],
        "sparse_parity": found["parity"],
        "layers": found["plan"]["layers"],
    }
    write_json(folder / REPORT, report)
    return report


def _given(path: Path, inputs: Sequence[Input], shapes: Mapping[str, Shape]) -> tuple[Feeds, Feeds]:
    """As many examples as `shapes` says, or one; two more where the graph takes any number; and then all of them."""
    examples = given_examples(path, inputs)
    every: list[Mapping[str, Any]] = []
    taken = 0
    for count, feed in examples.feeds():
        if taken >= _MOST:
            break
        taken += count
        every.append(feed)
    for name, shape in shapes.items():
        array = examples.arrays[name]
        if array.shape[1:] != shape[1:] or len(array) < shape[0]:
            raise UsageError(
                f"--shape {name}: expected at most what {path} holds, {list(array.shape)}, got {list(shape)}"
            )

    def first(count: int) -> Mapping[str, Any]:
        return {name: array if name in examples.whole else array[:count] for name, array in examples.arrays.items()}

    if all(not source.shape or isinstance(source.shape[0], int) for source in inputs):
        return every[:1], every[1:]
    planned = next((shapes[name][0] for name in shapes if name not in examples.whole), 1)
    return [first(planned), first(planned + 2)], every
