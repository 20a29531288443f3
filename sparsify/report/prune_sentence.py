"""What a prune run's numbers say, in one sentence, and nothing they do not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparsify.report.sentence import speed_clauses
from sparsify.report.words import between, milliseconds, percent, points, ratio, size

_UNITS = {"sparsity": percent, "macs": percent, "size": size, "latency_ms": milliseconds, "speedup": ratio}
_FILES = {
    "masked": "model/weights.safetensors, which sparsify.load reads,",
    "packed": "model/weights.packed, which sparsify.load reads,",
    "onnx": "model.onnx, which the runtime loads,",
}


def prune_sentence(metrics: Mapping[str, Any]) -> str:
    """Asked against achieved, what it costs on validation, what it gains in bytes and in time."""
    clauses = [
        _target(metrics),
        _masked(metrics),
        _drop(metrics),
        _wanted(metrics),
        _size(metrics),
        *speed_clauses(metrics),
    ]
    return "; ".join(clause for clause in clauses if clause) + "."


def target_told(metrics: Mapping[str, Any], key: str) -> str:
    """A figure of the target in its own unit, with its interval."""
    kind = str(metrics["target.kind"])
    shown = _UNITS[kind]
    low, high = metrics.get(f"{key}.ci_low"), metrics.get(f"{key}.ci_high")
    around = f" ({between(metrics, key, shown)})" if low is not None and low != high else ""
    return f"{shown(float(metrics[key]))}{around}"


def achieved_told(metrics: Mapping[str, Any]) -> str:
    """What the kept network has of the target; a sparsity also of all prunable weights, where that is another."""
    told, whole = target_told(metrics, "target.achieved"), percent(float(metrics["export.sparsity"]))
    if metrics["target.kind"] != "sparsity" or told == whole:
        return told
    return f"{told} of the layers that compete ({whole} of all prunable weights)"


def asked_told(metrics: Mapping[str, Any]) -> str:
    """What was asked for, by its name and in its own unit."""
    kind = str(metrics["target.kind"])
    name = {"latency_ms": "latency", "macs": "share of MACs"}.get(kind, kind)
    name += f" of {_FILES[metrics['size.counted']]}" if kind == "size" else ""
    return f"{name} {_UNITS[kind](float(metrics['target.asked']))}"


def pattern_told(metrics: Mapping[str, Any]) -> str:
    """The pattern, and whether its channels were masked for want of a way to remove them."""
    return f"{metrics['run.pattern']}, masked and not removed" if is_masked(metrics) else str(metrics["run.pattern"])


def is_masked(metrics: Mapping[str, Any]) -> bool:
    """Whether channels are still there, with weights of zero."""
    return "export.masked_because" in metrics


def amount_told(kind: str, value: float) -> str:
    """A value of the target `kind` in its own unit."""
    return _UNITS[kind](value)


def drop_told(metrics: Mapping[str, Any], key: str) -> str:
    """A drop: in points where the metric is a share, else in the metric's own units."""
    shown = points if is_share(metrics) else _plain
    interval = between(metrics, key, shown)
    unit = " points" if is_share(metrics) else ""
    return f"{shown(float(metrics[key]))}{unit}" + (f" ({interval})" if interval else "")


def is_share(metrics: Mapping[str, Any]) -> bool:
    """Whether the metric lies in [0, 1] and is told in percent."""
    return metrics.get("run.metric") in ("accuracy", "token_accuracy", "agreement")


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _target(metrics: Mapping[str, Any]) -> str:
    word = {"met": "The target is met", "missed": "The target is missed"}.get(
        str(metrics["target.outcome"]), "Whether the target is met is open"
    )
    return f"{word}: {asked_told(metrics)} asked, {achieved_told(metrics)} achieved"


def _masked(metrics: Mapping[str, Any]) -> str:
    why = metrics.get("export.masked_because")
    emptied = metrics.get("export.emptied")
    zeros = "their weights are zero, their biases stay, no work is saved"
    told = [f"channels are masked, not removed ({zeros}): {why}"] if why else []
    told += [f"nothing is left of {emptied}, whose output no longer depends on its input"] if emptied else []
    return "; ".join(told)


def _drop(metrics: Mapping[str, Any]) -> str:
    metric = str(metrics["run.metric"]).replace("_", " ")
    most = metrics.get("target.max_drop")
    allowed = (
        "" if most is None else f", where at most {points(most) if is_share(metrics) else _plain(most)} was allowed"
    )
    held = "" if metrics.get("run.labelled") else ", held against the dense network for want of labels"
    validation, test = drop_told(metrics, "export.drop"), drop_told(metrics, "export.test_drop")
    chosen = any(re.fullmatch(r"trial_\d+\.drop", name) for name in metrics)
    searched = ", by which it was chosen on validation; test had no part in that" if chosen else ""
    return f"{metric} drops by {validation} on validation and {test} on test{allowed}{held}{searched}"


def _wanted(metrics: Mapping[str, Any]) -> str:
    if metrics.get("target.wanted_drop") is None:
        return ""
    sparsity = metrics.get("target.wanted_sparsity")
    at = f"sparsity {percent(sparsity)}" if sparsity is not None else "the share of MACs asked for"
    cost = f"{at} would cost {drop_told(metrics, 'target.wanted_drop')}"
    return cost if metrics.get("target.wanted_met") else f"{cost} and not meet it either"


def _size(metrics: Mapping[str, Any]) -> str:
    dense = metrics["size.dense_fp32_bytes"]
    kept = "masked" if metrics["run.pattern"] == "channel" else "packed"  # what `model/` holds
    shares = {name: percent(metrics[f"size.{name}_bytes"] / dense) for name in (kept, "onnx")}
    return f"{_FILES[kept]} takes {shares[kept]} of the dense bytes, {_FILES['onnx']} {shares['onnx']}"
