"""The same metrics of a prune run on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sparsify.report import read
from sparsify.report.prune_sentence import achieved_told, asked_told, drop_told, is_share, pattern_told
from sparsify.report.terminal import latency_line, sizes_line, verdict_word
from sparsify.report.words import percent


def render_prune_terminal(metrics: Mapping[str, Any]) -> RenderableType:
    """Asked against achieved, the networks side by side, size, latency, and the answer last."""
    target = Text(f"target: {asked_told(metrics)} asked, ")
    target.append(f"{achieved_told(metrics)} achieved: ")
    target.append_text(verdict_word(str(metrics["target.outcome"])))
    target.append(f"; kept: {metrics['target.reason']}")
    parts: list[RenderableType] = [_networks(metrics), target]
    validation, test = drop_told(metrics, "export.drop"), drop_told(metrics, "export.test_drop")
    parts.append(Text(f"drop: {validation} on validation, {test} on test"))
    parts.append(Text(sizes_line(metrics)))
    parts += [latency_line(metrics, name, "pruned") for name in read.targets(metrics)]
    skipped = [name.removeprefix("skipped.") for name in metrics if name.startswith("skipped.")]
    if skipped:
        more = f" and {len(skipped) - 6} more" if len(skipped) > 6 else ""
        parts.append(Text(f"left as they were: {', '.join(skipped[:6])}{more}; the report says why"))
    return Group(*parts, Text(), Text(str(metrics["answer"]), style="bold"))


def _networks(metrics: Mapping[str, Any]) -> RenderableType:
    metric = str(metrics["run.metric"]).replace("_", " ")
    how = f"{pattern_told(metrics)} by {metrics['run.criterion']}, recovery: {metrics['run.recovery']}"
    title = Text(f"{metrics['run.name']}: {how}")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("network")
    for name in (f"{metric}, validation", "MACs", "parameters"):
        table.add_column(name, justify="right")
    for name in ("dense", "pruned", "recovered"):
        if f"network.{name}.macs" in metrics:
            found = read.span(metrics, f"network.{name}.validation")
            assert found is not None
            shown = percent(found.estimate, 2) if is_share(metrics) else f"{found.estimate:.4f}"
            work, stored = (metrics[f"network.{name}.{fact}"] for fact in ("macs", "parameters"))
            table.add_row(name, shown, f"{work:,}", f"{stored:,}")
    return Group(title, Text(), table, Text())
