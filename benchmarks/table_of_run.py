"""The tables of a run's `metrics.json` in Markdown, for docs/results.

python benchmarks/table_of_run.py runs/fashion-lenet > table.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsify.report import read


def main() -> None:
    """Print the tables of the run that is named."""
    metrics: dict[str, Any] = json.loads((Path(sys.argv[1]) / "metrics.json").read_text())
    print("\n".join(_levels(metrics)))
    for probe in read.probes(metrics):
        for key in read.probed(metrics, probe):
            print("\n".join(["", *_probe(metrics, key)]))


def _levels(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Accuracy (percent, ± half its 95% interval) and mean early-stop step of every level beside its controls."""
    controls = read.controls(metrics)
    heads = ["level", "weights left", "validation", *controls, "early stop", *(f"{c} early stop" for c in controls)]
    heads += ["test", "decision", "minus dense, points", "minus reinit, points"]
    yield _row(heads)
    yield _row(["---"] * len(heads))
    for level in read.levels(metrics):
        key = f"level_{level:02d}"
        keys = [key, *(f"{key}.control.{control}" for control in controls)]
        words = [str(metrics.get(f"{key}.{word}", "")) for word in ("matching", "winning")]
        yield _row(
            [
                "dense" if level == 0 else str(level),
                f"{100 * (1 - metrics[f'{key}.sparsity']):.1f}%",
                *[_percent(metrics, f"{each}.validation_accuracy") for each in keys],
                *[_steps(metrics, f"{each}.early_stop_step") for each in keys],
                _percent(metrics, f"{key}.test_accuracy"),
                ", ".join(word for word in words if word and word != "untested"),
                _points(metrics, f"{key}.difference"),
                _points(metrics, f"{key}.gain"),
            ]
        )


def _probe(metrics: Mapping[str, Any], key: str) -> Iterator[str]:
    """The arms of a probe at one level."""
    figures = (
        "accuracy",
        "early_stop_step",
        "iou",
        "iou_chance",
        "ticket_weights_alone_accuracy",
        "rest_alone_accuracy",
    )
    yield _row(["arm", *(figure.replace("_", " ") for figure in figures)])
    yield _row(["---"] * (len(figures) + 1))
    for arm in read.arms(metrics, key):
        cells = [_interval(metrics, f"{key}.arm.{arm}.{figure}") for figure in figures]
        yield _row([arm, *cells])
    yield ""
    sentences = [metrics[f"{key}.reason"], metrics.get(f"{key}.caveat", "")]
    yield f"Verdict: **{metrics[f'{key}.verdict']}**; {'; '.join(filter(None, sentences))}."


def _percent(metrics: Mapping[str, Any], key: str) -> str:
    span = read.span(metrics, key)
    if span is None:
        return ""
    half = "" if span.high is None or span.low is None else f" ± {50 * (span.high - span.low):.2f}"
    return f"{100 * span.estimate:.2f}{half}"


def _steps(metrics: Mapping[str, Any], key: str) -> str:
    span = read.span(metrics, key)
    return "" if span is None else f"{span.estimate:.0f}"


def _points(metrics: Mapping[str, Any], key: str) -> str:
    span = read.span(metrics, key)
    if span is None:
        return ""
    bounds = "" if span.low is None or span.high is None else f" ({100 * span.low:+.2f} to {100 * span.high:+.2f})"
    return f"{100 * span.estimate:+.2f}{bounds}"


def _interval(metrics: Mapping[str, Any], key: str) -> str:
    span = read.span(metrics, key)
    if span is None:
        return ""
    digits = 0 if span.estimate > 10 else 3
    bounds = "" if span.low is None or span.high is None else f" ({span.low:.{digits}f} to {span.high:.{digits}f})"
    return f"{span.estimate:.{digits}f}{bounds}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
