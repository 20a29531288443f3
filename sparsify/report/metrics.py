"""`metrics.json`: one flat mapping of dotted names to numbers, words and lists of them. All the names are here.

A name whose value is unknown is absent. An interval is written as its estimate under `.mean` (a mean) or under the bare
name (a ratio or a difference of means), with `.ci_low` and `.ci_high`; the bounds are absent where there is none.

| name | value |
|---|---|
| `run.name` `run.description` `run.model` `run.data` `run.seed` `run.replicates` `run.pattern` | what was run |
| `matching.margin` `matching.alpha` | what levels are decided by |
| `level_NN.sparsity` `.weights_left` | NN = 00 is dense |
| `level_NN.validation_accuracy.mean/.ci_low/.ci_high/.values` | values: one a replicate |
| `level_NN.test_accuracy.mean/...` | only where test was read |
| `level_NN.early_stop_step.mean/...` | steps to least validation loss |
| `level_NN.control.NAME.validation_accuracy.mean/...` `.early_stop_step.mean/...` | |
| `level_NN.matching` `.winning` `.decision` | words; `.decision` is the reason |
| `level_NN.matching.p` `.winning.p` | adjusted p |
| `level_NN.difference/.ci_low/.ci_high` | ticket minus dense, paired |
| `level_NN.gain/.ci_low/.ci_high` | ticket minus redrawn weights, paired |
| `export.level` `.replicate` `.sparsity` `.reason` | |
| `export.accuracy_drop/.ci_low/.ci_high` | dense minus exported level, paired, on validation |
| `export.test_accuracy_drop/.ci_low/.ci_high` | the same on test |
| `export.parity.TARGET.NAME` | runtime beside eager PyTorch |
| `size.dense_fp32_bytes` `.masked_bytes` `.packed_bytes` `.shrunk_bytes` `.onnx_bytes` `.packed_fraction` | |
| `latency.TARGET.status` `.verdict` `.reason` `.pairs` `.launches` | |
| `latency.TARGET.dense_p50_ms` `.sparse_p50_ms/.ci_low/.ci_high` | medians |
| `latency.TARGET.unresolved` | why dense beside itself left everything open; absent where it did not |
| `latency.TARGET.speedup/.ci_low/.ci_high` | dense fp32 over sparse: above 1 the ticket is faster |
| `latency.TARGET.aa/.ci_low/.ci_high` | dense over dense, taken first |
| `latency.TARGET.best_dense` `.best_dense_p50_ms` `.best_dense_speedup/.ci_low/.ci_high` | |
| `latency.TARGET.NAME` | batch, threads, precision and the like |
| `probe.NAME.verdict` `.reason` `.caveat` `.tickets` `.tickets_needed` `.note` | over all levels |
| `probe.NAME.level_NN.*` | the same for one level |
| `probe.NAME.level_NN.kept_over_ceiling/.ci_low/.ci_high` and so on | ratios and differences |
| `probe.NAME.level_NN.arm.ARM.FIGURE.mean/...` | figures of an arm |
| `environment.*` | machine and versions |
| `answer` | the one sentence on dead weight |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from sparsify.report.results import ExportResult, LatencyResult, LevelResult, RunResults, SizeResult
from sparsify.report.sentence import dead_weight_sentence
from sparsify.stats import Interval, LevelDecision, mean_interval, paired_difference

Scalar: TypeAlias = str | int | float | bool
Metrics: TypeAlias = dict[str, Scalar | list[Scalar]]
Pairs: TypeAlias = Iterator[tuple[str, Any]]

_INTERVAL = {"estimate", "ci_low", "ci_high"}


def build_metrics(results: RunResults) -> Metrics:
    """Flatten what a run found, with the intervals and the sentence that belong to it."""
    found = {name: value for name, value in _all(results) if value is not None and value != ""}
    return found | {"answer": dead_weight_sentence(found)}


def level_key(level: int) -> str:
    """`level_03`: a level's part of a name."""
    return f"level_{level:02d}"


def _all(results: RunResults) -> Pairs:
    replicates = len(results.levels[0].validation_accuracy) if results.levels else 0
    for name in ("name", "description", "model", "data", "seed", "pattern"):
        yield f"run.{name}", getattr(results, name)
    yield "run.replicates", replicates
    yield "matching.margin", results.margin
    yield "matching.alpha", results.alpha
    for level in results.levels:
        yield from _level(level)
    for control in results.controls:
        key = f"{level_key(control.level)}.control.{control.name}"
        yield from mean_metrics(f"{key}.validation_accuracy", control.validation_accuracy)
        yield from mean_metrics(f"{key}.early_stop_step", control.early_stop_step)
    for decision in results.decisions.values():
        yield from _decision(decision)
    if results.export is not None:
        yield from _export(results.export, {level.level: level for level in results.levels})
    for name, conclusion in results.probes.items():
        yield from _probe(f"probe.{name}", conclusion)
    yield from plain_metrics("environment", results.environment)


def _level(level: LevelResult) -> Pairs:
    key = level_key(level.level)
    yield f"{key}.sparsity", level.sparsity
    yield f"{key}.weights_left", level.weights_left
    yield from mean_metrics(f"{key}.validation_accuracy", level.validation_accuracy)
    yield from mean_metrics(f"{key}.test_accuracy", level.test_accuracy)
    yield from mean_metrics(f"{key}.early_stop_step", level.early_stop_step)


def _decision(decision: LevelDecision) -> Pairs:
    key = level_key(decision.level)
    yield f"{key}.matching", decision.matching
    yield f"{key}.matching.p", decision.p_matching
    yield f"{key}.winning", decision.winning
    yield f"{key}.winning.p", decision.p_winning
    yield f"{key}.decision", decision.reason
    yield from interval_metrics(f"{key}.difference", decision.difference)
    yield from interval_metrics(f"{key}.gain", decision.gain)


def _export(export: ExportResult, levels: Mapping[int, LevelResult]) -> Pairs:
    yield "export.level", export.level
    yield "export.replicate", export.replicate
    yield "export.reason", export.reason
    if export.level in levels and 0 in levels:
        dense, ticket = levels[0], levels[export.level]
        yield "export.sparsity", ticket.sparsity
        drop = paired_difference(dense.validation_accuracy, ticket.validation_accuracy)
        yield from interval_metrics("export.accuracy_drop", drop)
        if dense.test_accuracy and ticket.test_accuracy:
            yield from interval_metrics(
                "export.test_accuracy_drop", paired_difference(dense.test_accuracy, ticket.test_accuracy)
            )
    yield from export_metrics(export.sizes, export.parity, export.latency)


def export_metrics(
    sizes: SizeResult | None, parity: Mapping[str, Mapping[str, Any]], latencies: Sequence[LatencyResult]
) -> Pairs:
    """What an exported network weighs, how it compares with eager PyTorch, and how fast it runs."""
    if sizes is not None:
        for name, size in asdict(sizes).items():
            yield f"size.{name}_bytes", size
        yield "size.packed_fraction", sizes.packed / sizes.dense_fp32
    for target, figures in parity.items():
        yield from plain_metrics(f"export.parity.{target}", figures)
    for latency in latencies:
        yield from latency_metrics(latency)


def latency_metrics(latency: LatencyResult) -> Pairs:
    """Dense beside sparse on one target, under `latency.TARGET`."""
    key = f"latency.{latency.target}"
    yield from plain_metrics(key, latency.details)
    yield f"{key}.unresolved", latency.unresolved
    if latency.sparse_p50 is not None:
        yield f"{key}.sparse_p50_ms.ci_low", latency.sparse_p50.low
        yield f"{key}.sparse_p50_ms.ci_high", latency.sparse_p50.high
    for name in ("status", "verdict", "reason", "dense_p50_ms", "sparse_p50_ms", "best_dense", "best_dense_p50_ms"):
        yield f"{key}.{name}", getattr(latency, name)
    for name in ("pairs", "launches"):
        yield f"{key}.{name}", getattr(latency, name) or None
    for name in ("speedup", "aa", "best_dense_speedup"):
        yield from interval_metrics(f"{key}.{name}", getattr(latency, name))


def _probe(key: str, conclusion: Mapping[str, Any]) -> Pairs:
    yield f"{key}.note", conclusion.get("note")
    yield from _judged(key, conclusion.get("all_levels", {}))
    for name, judged in conclusion.get("levels", {}).items():
        yield from _judged(f"{key}.{name}", judged)


def _judged(key: str, judged: Mapping[str, Any]) -> Pairs:
    for name, value in judged.items():
        if name == "arms":
            for arm, figures in value.items():
                for figure, interval in figures.items():
                    yield from bounds_metrics(f"{key}.arm.{arm}.{figure}", "mean", interval)
        elif isinstance(value, Mapping) and value.keys() >= _INTERVAL:
            yield from bounds_metrics(f"{key}.{name}", "", value)
        else:
            yield from plain_metrics(f"{key}.{name}", value)


def mean_metrics(key: str, values: Sequence[float]) -> Pairs:
    """A mean with its interval, and the values."""
    if values:
        yield from bounds_metrics(key, "mean", mean_interval(values).to_json())
        yield f"{key}.values", list(values)


def interval_metrics(key: str, interval: Interval | None) -> Pairs:
    """An estimate and its bounds; nothing where there is no interval."""
    if interval is not None:
        yield from bounds_metrics(key, "", interval.to_json())


def bounds_metrics(key: str, estimate: str, interval: Mapping[str, Any]) -> Pairs:
    """An interval as JSON: its estimate under `key`, or under `key.estimate`, and its bounds."""
    yield f"{key}.{estimate}" if estimate else key, interval["estimate"]
    yield f"{key}.ci_low", interval["ci_low"]
    yield f"{key}.ci_high", interval["ci_high"]


def plain_metrics(key: str, value: Any) -> Pairs:
    """Nested plain data as dotted names; a list of scalars stays a list, other lists are numbered."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from plain_metrics(f"{key}.{name}", inner)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        for i, inner in enumerate(value):
            yield from plain_metrics(f"{key}.{i}", inner)
    else:
        yield key, list(value) if isinstance(value, tuple) else value
