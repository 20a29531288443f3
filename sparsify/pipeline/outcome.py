"""What a finished run says: metrics, report and manifest, written last and in that order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError
from sparsify.machine import environment, versions
from sparsify.pipeline.choice import Choice, Curves
from sparsify.pipeline.plan import Plan, probe_path, ticket_path
from sparsify.recipe.emit import resolved_yaml
from sparsify.report.metrics import build_metrics
from sparsify.report.page import render_report
from sparsify.report.results import (
    ControlResult,
    ExportResult,
    LatencyResult,
    LevelResult,
    RunResults,
    SizeResult,
)
from sparsify.stats import LevelDecision, median_interval, percentiles, unresolved
from sparsify.store.atomic import write_json, write_text
from sparsify.store.digest import file_sha256
from sparsify.store.layout import MANIFEST_MEND, METRICS, REPORT
from sparsify.store.run import Run

DISTRIBUTIONS = ("sparsify-tickets", "torch", "numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Outcome:
    """The flat metrics of a run, and where its report is."""

    metrics: Mapping[str, Any]
    report: Path


def stored_outcome(run: Run) -> Outcome | None:
    """What a finished run said when it finished; None where it is not finished. CorruptError if a file was changed."""
    manifest = run.manifest()
    if manifest is None:
        return None
    for name in (METRICS, REPORT):
        path = run.root / name
        if not path.is_file() or file_sha256(path) != manifest["files"][name]["sha256"]:
            raise CorruptError(f"{path}: missing or changed since it was written; {MANIFEST_MEND}")
    return Outcome(json.loads((run.root / METRICS).read_text()), run.root / REPORT)


def write_outcome(
    run: Run, plan: Plan, curves: Curves, decisions: Mapping[int, LevelDecision], choice: Choice
) -> Outcome:
    """Build the metrics from the stages; write `metrics.json`, `report.html`, and the manifest last."""
    recipe = plan.recipe
    histories = [history for level in curves.levels.values() for history in level]
    where = environment() | {"versions": present(versions(*DISTRIBUTIONS))} | training_precision(histories)
    results = RunResults(
        name=recipe.name,
        description=recipe.description,
        model=recipe.model,
        data=recipe.data.source,
        seed=recipe.seed,
        levels=tuple(_levels(run.root, plan, curves)),
        controls=tuple(_controls(curves)),
        decisions=decisions,
        margin=recipe.matching.margin,
        alpha=recipe.matching.alpha,
        pattern=recipe.prune.pattern,
        export=_export(run.root, plan, choice),
        probes={spec.name: read_json(run.root / probe_path(spec.name) / "result.json") for spec in recipe.probes},
        environment=where,
    )
    metrics = build_metrics(results)
    write_json(run.root / METRICS, metrics)
    write_text(run.root / REPORT, render_report(metrics, recipe=resolved_yaml(recipe)))
    run.write_manifest({"environment": where, "seeds": {"recipe": recipe.seed}, "versions": where["versions"]})
    return Outcome(metrics, run.root / REPORT)


def training_precision(histories: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What trainings ran in, which `precision: auto` leaves open; nothing where no history says."""
    ran = sorted({history["precision"] for history in histories if history.get("precision")})
    return {"training_precision": ", ".join(ran)} if ran else {}


def _levels(root: Path, plan: Plan, curves: Curves) -> Iterator[LevelResult]:
    test = read_json(root / "test" / "test.json")
    for level, histories in curves.levels.items():
        kept = [_kept(root / ticket_path(r, level) / "mask.safetensors") for r in range(plan.recipe.replicates)]
        yield LevelResult(
            level=level,
            sparsity=_mean([1 - left / total for left, total in kept]),
            weights_left=kept[0][0],
            validation_accuracy=tuple(history["final_accuracy"] for history in histories),
            early_stop_step=tuple(history["early_stop_step"] for history in histories),
            test_accuracy=tuple(test[ticket_path(r, level)]["accuracy"] for r in range(plan.recipe.replicates)),
        )


def _kept(mask: Path) -> tuple[int, int]:
    """Weights kept and prunable weights, of a mask's file; without torch."""
    from safetensors.numpy import load_file

    tensors = load_file(mask).values()
    return sum(int(tensor.sum()) for tensor in tensors), sum(tensor.size for tensor in tensors)


def _controls(curves: Curves) -> Iterator[ControlResult]:
    for name, levels in curves.controls.items():
        for level, histories in levels.items():
            yield ControlResult(
                name,
                level,
                tuple(history["final_accuracy"] for history in histories),
                tuple(history["early_stop_step"] for history in histories),
            )


def _export(root: Path, plan: Plan, choice: Choice) -> ExportResult:
    targets = plan.recipe.export.targets
    sizes = read_json(root / "export" / targets[0] / "sizes.json")
    return ExportResult(
        level=choice.level,
        replicate=choice.replicate,
        reason=choice.basis,
        sizes=SizeResult(sizes["dense_fp32"], sizes["masked"], sizes["packed"], sizes["shrunk"], sizes["onnx"]),
        latency=tuple(latency_result(root, target) for target in targets),
        parity={target: parity_figures(read_json(root / "export" / target / "parity.json")) for target in targets},
    )


def parity_figures(parity: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the ticket, and whether they were taken on the target."""
    return {"status": parity["status"]} | dict(parity["model"])


def latency_result(root: Path, target: str) -> LatencyResult:
    """What the run measured on a target, or why it was not measured."""
    record = read_json(root / "latency" / target / "latency.json")
    if "status" in record:
        return LatencyResult(target, status=record["status"])
    from sparsify_export.measurement import Latency

    latency = Latency.from_json(record)
    launch = latency.launches[0].environment
    names = ("batch", "precision", "timed", "affinity", "governor", "load_average_before", "load_average_after")
    return LatencyResult(
        target,
        dense_p50_ms=percentiles(latency.dense_ms)[50],
        sparse_p50_ms=percentiles(latency.sparse_ms)[50],
        sparse_p50=median_interval(latency.sparse_ms),
        speedup=latency.interval,
        aa=latency.aa_interval,
        verdict=latency.verdict.word,
        reason=latency.verdict.reason,
        unresolved=unresolved(latency.aa_interval, latency.equivalence),
        pairs=latency.pairs,
        launches=len(latency.launches),
        details={name: launch[name] for name in names if launch.get(name) is not None}
        | {"runtime": dict(latency.launches[0].dense)},
    )


def read_json(path: Path) -> Any:
    """The JSON of a stage; CorruptError where it is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: expected JSON, got {error}") from error


def present(found: Mapping[str, str]) -> dict[str, str]:
    """The versions of what is installed."""
    return {name: version for name, version in found.items() if version != "absent"}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
