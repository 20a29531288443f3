"""The levels: what is left, how accurate it is beside dense and the controls, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsify.report import read
from sparsify.report.cells import accuracy, figure, table, word
from sparsify.report.chart import accuracy_chart
from sparsify.report.markup import Html, element
from sparsify.report.words import decision, margin_in_points, percent


def levels_section(metrics: Mapping[str, Any]) -> Html | None:
    """The chart and the table of levels."""
    levels = read.levels(metrics)
    if not levels:
        return None
    controls = read.controls(metrics)
    with_test = any(read.span(metrics, f"level_{level:02d}.test_accuracy") for level in levels)
    head = ["level", "decision", "sparsity", "validation accuracy", *controls]
    head += ["test accuracy"] * with_test + ["early stop", "weights left"]
    rows = [_row(metrics, level, controls, with_test) for level in levels]
    return element(
        "section",
        element("h2", "Levels"),
        accuracy_chart(metrics),
        table(head, rows, numeric=range(2, len(head))),
        element("p", _rule(metrics), class_="quiet"),
    )


def _rule(metrics: Mapping[str, Any]) -> str:
    margin, alpha = metrics.get("matching.margin", 0.005), metrics.get("matching.alpha", 0.05)
    return (
        f"Matching: a drop from dense of {margin_in_points(margin)} or more is ruled out (one-sided paired t over "
        f"replicates, Holm over levels, {alpha:g}). Winning: matching, and better than the same mask with redrawn "
        "weights (reinit), decided in the same way where that control was run. Small print is the 95% interval over "
        "replicates, which differ in seed and share their validation images; early stop is the mean step of least "
        "validation loss. The exported level is shaded."
    )


def _row(metrics: Mapping[str, Any], level: int, controls: Sequence[str], with_test: bool) -> Html:
    key = f"level_{level:02d}"
    left, stop = metrics.get(f"{key}.weights_left"), metrics.get(f"{key}.early_stop_step.mean")
    decided = decision(str(metrics.get(f"{key}.matching", "")), str(metrics.get(f"{key}.winning", "")))
    cells = [
        percent(float(metrics[f"{key}.sparsity"])),
        *[
            figure(metrics, f"{key}.{infix}validation_accuracy", accuracy)
            for infix in ["", *(f"control.{name}." for name in controls)]
        ],
        *([figure(metrics, f"{key}.test_accuracy", accuracy)] if with_test else []),
        "" if stop is None else f"{stop:,.0f}",
        "" if left is None else f"{left:,}",
    ]
    return element(
        "tr",
        element("th", "dense" if level == 0 else f"{level}", scope="row"),
        element("td", word(decided), title=metrics.get(f"{key}.decision")),
        *[element("td", cell, class_="number") for cell in cells],
        class_="exported" if level and level == metrics.get("export.level") else None,
    )
