"""`sparsify prune --onnx` and `--file`: what can be done to a file alone, without the network's code or its data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sparsify.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparsify.masks.stream import FileReport
    from sparsify.recipe.pattern import Pattern

_SHOWN = 6  # names of layers left dense; JSON has all


def prune_graph(
    path: Path,
    out: Path | None,
    *,
    pattern: Pattern,
    sparsity: float | None,
    criterion: str,
    allocation: str | None,
    overrides: Mapping[str, float],
    data: Mapping[str, Any] | None,
    calibration: int,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    as_json: bool,
) -> None:
    """Prune the weights in an ONNX graph; exit 0, for there is no target but the sparsity."""
    from sparsify_export.onnx_prune import prune_onnx

    done = prune_onnx(
        path,
        _new(out or Path(f"{path.stem}-pruned.onnx")),
        pattern=pattern,
        sparsity=sparsity,
        criterion=criterion,
        allocation=allocation,  # pyright: ignore[reportArgumentType]  # checked inside
        overrides=overrides,
        calibration=None if data is None else _examples(data, path, calibration, seed),
        shapes=shapes,
        seed=seed,
    )
    _tell(json.dumps(done.to_json()) if as_json else done.text(), as_json=as_json)


def _examples(data: Mapping[str, Any], graph: Path, count: int, seed: int) -> Path | NDArray[Any]:
    """A file of arrays by the inputs' names; or training examples of a data set, fed as the graph's metadata says.

    Where it says nothing, or options say otherwise, they are fed as a network of that data would be. Either is told.

    Args:
        data: what a recipe's `data` would have; its source may be a file instead.
        graph: the ONNX file; pictures are brought to the size it takes, unless another is said.
        count: most examples of a data set; of a file all are taken.
        seed: of the examples and of the data's split.
    """
    source = str(data["source"])
    if Path(source).suffix.lower() in (".npz", ".npy") and ":" not in source:
        if unheard := data.keys() - {"source"}:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unheard))
            raise UsageError(f"{names}: expected pictures, got {source}, whose arrays are fed as they are")
        return Path(source)
    import torch

    from sparsify.cli.prune_feeding import Feeding
    from sparsify.data.calibration import calibration_batches
    from sparsify.data.catalogue import parse_source
    from sparsify.data.load import load
    from sparsify.data.prepare import prepare
    from sparsify.recipe.spec import DataSpec
    from sparsify_export.onnx_check import inputs_of

    feeding = Feeding.of(graph, data)
    said = feeding.fields()
    sides = {one.shape[2:] for one in inputs_of(graph) if len(one.shape) == 4}
    if source.startswith("image-folder:") and len(sides) == 1:
        height, width = sides.pop()
        if isinstance(height, int) and height == width:
            said.setdefault("image_size", height)
    try:
        parse_source(source)
        spec = DataSpec.model_validate(said)
    except ValueError as error:
        raise UsageError(f"--data: {error}; or FILE.npz of arrays by the inputs' names") from None
    prepare(spec)
    loaded = load(spec, trained=True)
    drawn = calibration_batches(loaded, min(count, len(loaded.train)), seed)
    inputs, told = feeding.feed(torch.cat([inputs for inputs, _ in drawn]).numpy(), loaded.preprocessing)
    print(f"calibrated on {told}", file=sys.stderr)
    return inputs


def prune_weights(
    path: Path,
    out: Path | None,
    *,
    pattern: Pattern,
    sparsity: float | None,
    criterion: str,
    allocation: str,
    overrides: Mapping[str, float],
    as_json: bool,
) -> None:
    """Prune a file of weights, or several with an index, without holding them; exit 0."""
    from sparsify.masks.allocate import Allocation
    from sparsify.masks.stream import prune_file
    from sparsify.pipeline.observer import observer_for_people

    if criterion != "magnitude":
        raise UsageError(f"--criterion: expected magnitude with --file, which has weights alone, got {criterion!r}")
    if allocation not in get_args(Allocation):
        raise UsageError(f"--allocation: expected {', '.join(get_args(Allocation))} with --file, got {allocation!r}")
    final = _new(out or _beside(path))
    observer = observer_for_people(json=as_json)
    observer.started(path.name)
    try:
        report = prune_file(
            path,
            final,
            pattern=pattern,
            sparsity=sparsity,
            allocation=allocation,  # pyright: ignore[reportArgumentType]  # checked above
            overrides=overrides,
            progress=lambda done, whole, note: observer.progress(path.name, done, whole, note),
        )
    finally:
        observer.close()
    document = {"source": str(path), "out": str(final), "pattern": str(pattern), "allocation": allocation}
    told = json.dumps(document | report.to_json()) if as_json else _text(report, pattern, final)
    _tell(told, as_json=as_json)


def _text(report: FileReport, pattern: Pattern, out: Path) -> str:
    total = sum(layer.total for layer in report.layers.values())
    lines = [
        f"{pattern}, magnitude: {report.sparsity:.2%} of {total:,} weights removed, in {len(report.layers)} layers"
    ]
    lines += [f"left dense: {name}: {why}" for name, why in list(report.skipped.items())[:_SHOWN]]
    if len(report.skipped) > _SHOWN:
        lines.append(f"... and {len(report.skipped) - _SHOWN} more, all in the JSON")
    return "\n".join([*lines, f"wrote {out}; zeros are stored in place, so it is no smaller"])


def _beside(path: Path) -> Path:
    """Where what was pruned goes by default, in the current folder: a file for a file, a folder for several."""
    from sparsify.store.shards import INDEX

    if path.name.endswith(INDEX):
        return Path(f"{path.absolute().parent.name}-pruned")
    return Path(f"{path.stem}-pruned{path.suffix}")


def _new(out: Path) -> Path:
    if out.exists():
        raise UsageError(f"{out}: expected no such file yet, got one; name another with --out, or remove it")
    return out


def _tell(text: str, *, as_json: bool) -> None:
    print(text, file=sys.stdout if as_json else sys.stderr)
