"""`metrics.json` of a prune run: one flat mapping of dotted names, as `metrics.py` has it for a run of tickets.

| name | value |
|---|---|
| `run.kind` | `prune` |
| `run.name` `.description` `.model` `.data` `.seed` `.task` `.metric` `.labelled` | what, and how it is judged |
| `run.pattern` `.criterion` `.allocation` `.recovery` | how |
| `run.preprocessing` | how the network is fed, in a line |
| `target.kind` `.asked` `.max_drop` `.outcome` `.reason` | met, missed or inconclusive |
| `target.achieved/.ci_low/.ci_high` | in the target's own unit; a sparsity is that of the layers that compete |
| `target.wanted_sparsity` `.wanted_drop/.ci_low/.ci_high` | what would have met it, at too large a drop |
| `network.NAME.validation.mean/.ci_low/.ci_high` `.macs` `.parameters` | NAME: dense, pruned, recovered |
| `export.sparsity` | of all prunable weights of the kept network |
| `export.macs_fraction` `.parameters_fraction` | of the kept network |
| `export.emptied` | layers of which nothing is left; absent where there is none |
| `export.masked_because` | why channels were masked and not removed; absent where they were removed |
| `export.drop/.ci_low/.ci_high` `export.test_drop/...` | dense minus kept, paired example by example |
| `export.accuracy_drop` `export.test_accuracy_drop` | the same, where the metric is accuracy |
| `trial_NN.sparsity` or `.macs`, `.outcome` `.achieved/...` `.drop/...` | the search |
| `layer.NAME.sparsity` `.shape` `.dense_shape` | |
| `channels.NAME.before` `.after` `.coupled` | outputs of a layer, those not removed or masked, and its coupled layers |
| `skipped.NAME` | layers left dense, and why |
| `size.counted` `.counted_bytes` | what a size is asked of: `onnx`, the target's model.onnx, or `packed`, model/ |
| `size.*` `latency.TARGET.*` `export.parity.TARGET.*` `environment.*` | as for tickets |
| `answer` | what the numbers say, in a sentence |
"""

from __future__ import annotations

from sparsify.report.metrics import (
    Metrics,
    Pairs,
    bounds_metrics,
    export_metrics,
    interval_metrics,
    plain_metrics,
)
from sparsify.report.prune_results import PruneResults, TargetResult
from sparsify.report.prune_sentence import prune_sentence


def build_prune_metrics(results: PruneResults) -> Metrics:
    """Flatten what a prune run found, with the sentence that belongs to it."""
    found = {name: value for name, value in _all(results) if value is not None and value != ""}
    return found | {"answer": prune_sentence(found)}


def _all(results: PruneResults) -> Pairs:
    yield "run.kind", "prune"
    for name in ("name", "description", "model", "data", "seed", "task", "labelled", "recovery", "preprocessing"):
        yield f"run.{name}", getattr(results, name)
    for name in ("pattern", "criterion", "allocation"):
        yield f"run.{name}", results.removal[name]
    yield "run.metric", results.networks[0].metric
    yield from _target(results.target)
    for network in results.networks:
        yield from bounds_metrics(f"network.{network.name}.validation", "mean", network.value.to_json())
        yield f"network.{network.name}.macs", network.macs
        yield f"network.{network.name}.parameters", network.parameters
    yield from _export(results)
    for number, trial in enumerate(results.trials, start=1):
        key = f"trial_{number:02d}"
        yield f"{key}.sparsity", trial.sparsity
        yield f"{key}.macs", trial.macs
        yield f"{key}.outcome", trial.outcome
        yield from interval_metrics(f"{key}.achieved", trial.achieved)
        yield from interval_metrics(f"{key}.drop", trial.drop)
    for layer in results.layers:
        yield f"layer.{layer.name}.sparsity", layer.sparsity
        yield f"layer.{layer.name}.shape", list(layer.shape)
        yield f"layer.{layer.name}.dense_shape", list(layer.dense_shape)
    for name, width in results.report.get("widths", {}).items():
        yield f"channels.{name}.before", width["before"]
        yield f"channels.{name}.after", width["after"]
        yield f"channels.{name}.coupled", ", ".join(width["coupled"])
    for name, why in results.report.get("skipped", {}).items():
        yield f"skipped.{name}", why
    yield from plain_metrics("environment", results.environment)


def _target(target: TargetResult) -> Pairs:
    yield "target.kind", target.kind
    yield "target.asked", target.asked
    yield "target.max_drop", target.max_drop
    yield "target.outcome", target.outcome
    yield "target.reason", target.reason
    yield "target.wanted_sparsity", target.wanted_sparsity
    yield from interval_metrics("target.achieved", target.achieved)
    yield from interval_metrics("target.wanted_drop", target.wanted_drop)
    yield "target.wanted_met", target.wanted_met if target.wanted_drop is not None else None


def _export(results: PruneResults) -> Pairs:
    yield "export.sparsity", results.sparsity
    yield "export.macs_fraction", results.macs_fraction
    yield "export.emptied", ", ".join(results.report.get("emptied", ()))
    yield "export.masked_because", results.report.get("masked_because")
    yield "export.parameters_fraction", results.parameters_fraction
    drops = {"drop": results.drop, "test_drop": results.test_drop}
    if results.networks[0].metric == "accuracy":
        drops |= {"accuracy_drop": results.drop, "test_accuracy_drop": results.test_drop}
    for name, drop in drops.items():
        yield from interval_metrics(f"export.{name}", drop)
    yield from export_metrics(results.sizes, results.parity, results.latency)
    yield "size.counted", results.size_of
    yield "size.counted_bytes", getattr(results.sizes, results.size_of)
