"""`prune_onnx`: an ONNX file pruned on its own, without training; zeros in place, the rest of the graph untouched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import onnx
from numpy.typing import NDArray
from torch import Tensor

from sparsify.errors import CorruptError, SparsifyError, UsageError
from sparsify.masks.allocate import Allocation
from sparsify.recipe.pattern import Pattern
from sparsify.seeds import derive_seed
from sparsify_export.feed import Shape
from sparsify_export.onnx_check import inputs_in
from sparsify_export.pruning.agreement import Agreement, agreement, not_measured
from sparsify_export.pruning.choice import Choice, choose
from sparsify_export.pruning.examples import Examples, given_examples, made_up_examples
from sparsify_export.pruning.norms import input_norms
from sparsify_export.pruning.report import LayerRow, OnnxPruned
from sparsify_export.pruning.scores import magnitude, ranked_within_outputs, wanda
from sparsify_export.pruning.weights import Found, Skipped, Weight, find_weights
from sparsify_export.pruning.wire import Skeleton, read_skeleton
from sparsify_export.pruning.writing import destinations, write_pruned

OnnxCriterion: TypeAlias = Literal["magnitude", "wanda"]
CRITERIA: tuple[OnnxCriterion, ...] = ("magnitude", "wanda")


def prune_onnx(
    source: Path,
    out: Path,
    *,
    pattern: Pattern,
    sparsity: float | None = None,
    criterion: str = "magnitude",
    allocation: Allocation | None = None,
    overrides: Mapping[str, float] | None = None,
    calibration: Path | NDArray[Any] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    seed: int = 0,
) -> OnnxPruned:
    """Write a copy of `source` to `out` in which the lowest-scored weights are zero, and compare the two.

    Every byte that is not a removed weight's is the source's own. Weights kept in files beside the graph are written
    beside `out` under the same names. Scoring and writing hold one layer at a time; onnx's checker and ONNX Runtime,
    which runs the graphs to compare them, hold the file once or twice.

    Args:
        source: An ONNX file.
        out: Where to write; replaced whole or not at all.
        pattern: `unstructured`, N:M or block; N:M along the axis that the runtime multiplies over.
        sparsity: Fraction of the weights to remove; follows from N:M and may be left out there.
        criterion: `magnitude`, or `wanda`, which needs `calibration` and compares weights within each output.
        allocation: `global`, `uniform` or `erk`; None is `global` for magnitude and `uniform` for Wanda.
        overrides: Glob over the names of weights and nodes -> sparsity of that layer, 0 for leaving it dense.
        calibration: `.npz` of arrays by input name, `.npy` of one, or one array; the first axis is the example.
        shapes: Whole shapes by input name, for made-up inputs where an axis after the first has no size.
        seed: Draws made-up inputs.

    Raises:
        InputOutputError: A file is absent or cannot be read or written.
        CorruptError: The source is no valid ONNX, names files outside its folder, or holds weights that are not finite.
        UsageError: The options do not fit each other or the graph; names the node or weight.
        UnavailableError: Wanda without ONNX Runtime.
    """
    chosen = _allocation(pattern, sparsity, criterion, allocation, calibration)
    skeleton = read_skeleton(source)
    _require_valid(source)
    targets = destinations(skeleton, out)
    found = _scorable(find_weights(skeleton), criterion)
    _require_weights(source, found)
    examples = None if calibration is None else given_examples(calibration, inputs_in(source, skeleton.model.graph))
    squares = input_norms(skeleton, found.weights, examples, out.parent) if criterion == "wanda" and examples else {}

    def score(weight: Weight) -> Tensor:
        if weight.name not in squares:
            return magnitude(weight)
        scores = wanda(weight, squares[weight.name])
        return ranked_within_outputs(scores) if pattern.kind == "unstructured" else scores

    choice = choose(
        found.weights, score, pattern=pattern, sparsity=sparsity, allocation=chosen, overrides=overrides or {}
    )
    _require_pruned(source, choice)
    pruned = [weight.stored for weight in found.weights if weight.name in choice.kept]
    write_pruned(targets, source, {name: kept.mask for name, kept in choice.kept.items()}, pruned)
    _require_valid(out)
    return OnnxPruned(
        source=str(source),
        out=str(out),
        pattern=str(pattern),
        criterion=criterion,
        allocation=chosen,
        asked=pattern.sparsity if pattern.sparsity is not None else sparsity or 0.0,
        rows=_rows(found, choice, read_skeleton(out)),
        agreement=_agreement(skeleton, out, examples, shapes or {}, seed),
        calibration=examples.count if examples and squares else 0,
        file_bytes=(sum(p.stat().st_size for p in targets), sum(p.stat().st_size for p in targets.values())),
    )


def _allocation(
    pattern: Pattern, sparsity: float | None, criterion: str, allocation: Allocation | None, calibration: object
) -> Allocation:
    """Who competes, once the options fit each other."""
    if criterion not in CRITERIA:
        raise UsageError(f"criterion: expected {' or '.join(CRITERIA)} for an ONNX file, got {criterion!r}")
    if allocation is not None and allocation not in get_args(Allocation):
        raise UsageError(
            f"allocation: expected {', '.join(get_args(Allocation))} for an ONNX file, which has no labels to search "
            f"by, got {allocation!r}"
        )
    if pattern.kind == "channel":
        raise UsageError(
            "pattern channel: expected unstructured, n:m or block:RxC for an ONNX file, whose shapes stay as they are; "
            "channels are removed from a model: sparsify prune --model"
        )
    if pattern.sparsity is None and (sparsity is None or not 0 <= sparsity < 1):
        got = "none" if sparsity is None else sparsity
        raise UsageError(
            f"sparsity: expected a fraction from 0 to below 1 with pattern {pattern}, got {got}; 0.9 removes 90% "
            "of the weights"
        )
    if criterion == "wanda" and calibration is None:
        raise UsageError("criterion wanda: expected calibration data, got none; give examples, or use magnitude")
    if criterion == "wanda" and allocation == "global" and pattern.kind != "nm":
        raise UsageError(
            "criterion wanda: expected allocation uniform or erk, got global; its scores compare weights of one "
            "output, not layers"
        )
    return allocation or ("uniform" if criterion == "wanda" else "global")


def _require_valid(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorruptError(f"{path}: expected a valid ONNX graph, got: {reason}; export it again") from error


def _scorable(found: Found, criterion: str) -> Found:
    """Wanda leaves out stacks of matrices, whose inputs are not one set of features."""
    if criterion != "wanda":
        return found
    reason = "a stack of matrices, which Wanda does not score; magnitude does"
    skipped = [
        Skipped(one.name, one.stored.shape, one.stored.type_name, reason) for one in found.weights if one.stacked
    ]
    return Found(tuple(one for one in found.weights if not one.stacked), (*found.skipped, *skipped))


def _require_weights(source: Path, found: Found) -> None:
    if not found.weights:
        why = "; ".join(f"{one.name!r}: {one.reason}" for one in found.skipped[:5])
        raise UsageError(
            f"{source}: expected weights of Conv, ConvTranspose, Gemm or MatMul, got none that can be pruned"
            + (f": {why}" if why else "")
        )


def _require_pruned(source: Path, choice: Choice) -> None:
    if not choice.kept:
        why = "; ".join(f"{name!r}: {reason}" for name, reason in list(choice.skipped.items())[:5])
        raise UsageError(f"{source}: expected at least one weight to prune, got every one left dense: {why}")


def _rows(found: Found, choice: Choice, written: Skeleton) -> tuple[LayerRow, ...]:
    """What was done, with zeros counted in the file that was written."""
    zeros = {weight.name: 1 - _density(weight) for weight in find_weights(written).weights}
    pruned = tuple(
        LayerRow(
            name=weight.name,
            nodes=weight.nodes,
            shape=weight.stored.shape,
            dtype=weight.stored.type_name,
            asked=choice.asked.get(weight.name),
            achieved=zeros[weight.name],
            skipped=choice.skipped.get(weight.name, ""),
            also_read_by=weight.others,
        )
        for weight in found.weights
    )
    return (*pruned, *(LayerRow(one.name, (), one.shape, one.dtype, None, 0.0, one.reason) for one in found.skipped))


def _density(weight: Weight) -> float:
    return int(weight.stored.read().count_nonzero()) / weight.stored.elements


def _agreement(
    skeleton: Skeleton, out: Path, examples: Examples | None, shapes: Mapping[str, Shape], seed: int
) -> Agreement:
    if examples is None:
        try:
            inputs = inputs_in(skeleton.path, skeleton.model.graph)
            examples = made_up_examples(skeleton.path, inputs, shapes, derive_seed(seed, "made up"))
        except SparsifyError as error:
            return not_measured("made up", str(error))
    return agreement(skeleton.path, out, examples)
