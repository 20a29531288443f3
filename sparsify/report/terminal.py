"""The same metrics on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sparsify.report import read
from sparsify.report.sentence import dead_weight_sentence
from sparsify.report.words import between, decision, milliseconds, percent, points, ratio, size

_STYLES = {
    "matching": "green",
    "winning": "bold green",
    "faster": "green",
    "survives": "green",
    "slower": "red",
    "fails": "red",
    "met": "bold green",
    "missed": "bold red",
    "undecided": "yellow",
    "inconclusive": "yellow",
}

_SOFT = "\u00ad"
"""A hyphen where a heading may be cut."""
_WIDE = 160
"""Columns from which headings stand in one line; in two, the whole table stands in 80."""


def render_terminal(metrics: Mapping[str, Any], width: int = 80) -> RenderableType:
    """Table of levels, what was exported, probes, and the sentence on dead weight last; for so many columns."""
    parts: list[RenderableType] = [_levels(metrics, width)]
    parts += [Text(line) for line in (_drop(metrics), sizes_line(metrics)) if line]
    parts += [latency_line(metrics, target) for target in read.targets(metrics)]
    parts += [_probe(metrics, key) for probe in read.probes(metrics) for key in read.probed(metrics, probe)]
    answer = str(metrics.get("answer") or dead_weight_sentence(metrics))
    return Group(*parts, Text(), Text(answer, style="bold"))


def _levels(metrics: Mapping[str, Any], width: int) -> Table:
    levels, controls = read.levels(metrics), read.controls(metrics)
    with_test = any(read.span(metrics, f"level_{level:02d}.test_accuracy") for level in levels)
    title = Text(f"{metrics.get('run.name', 'run')}: accuracy in percent, ± the 95% interval over replicates")
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )
    names = ["level", f"spar{_SOFT}sity", f"valid{_SOFT}ation", *controls] + ["test"] * with_test
    for name in names:
        lines = name.replace(_SOFT, "") if width >= _WIDE else name.replace(_SOFT, "-").replace("-", "-\n")
        table.add_column(Text(lines), justify="right", min_width=max(map(len, lines.splitlines())))
    table.add_column("decision", min_width=len("not shown"))
    for level in levels:
        table.add_row(*_row(metrics, level, controls, with_test))
    return table


def _row(metrics: Mapping[str, Any], level: int, controls: list[str], with_test: bool) -> list[Text]:
    key = f"level_{level:02d}"
    exported = level > 0 and level == metrics.get("export.level")
    infixes = ["", *(f"control.{name}." for name in controls)]
    cells = [
        Text("dense" if level == 0 else f"{level}{'*' if exported else ''}"),
        Text(percent(float(metrics[f"{key}.sparsity"]))),
        *[_accuracy(metrics, f"{key}.{infix}validation_accuracy") for infix in infixes],
    ]
    if with_test:
        cells.append(_accuracy(metrics, f"{key}.test_accuracy"))
    return [
        *cells,
        verdict_word(decision(str(metrics.get(f"{key}.matching", "")), str(metrics.get(f"{key}.winning", "")))),
    ]


def _drop(metrics: Mapping[str, Any]) -> str:
    if (level := metrics.get("export.level")) is None:
        return ""
    drop, reason = read.span(metrics, "export.accuracy_drop"), metrics.get("export.reason", "")
    told = f"* exported: level {level}" + (f", {reason}" if reason else "")
    if "export.replicate" in metrics:
        told += f"; replicate {metrics['export.replicate']}, the best on validation"
    if drop is None:
        return told
    interval = between(metrics, "export.accuracy_drop", points)
    told += f"; drop from dense on validation {points(drop.estimate)} points" + (f" ({interval})" if interval else "")
    test = read.span(metrics, "export.test_accuracy_drop")
    if test is None:
        return told
    interval = between(metrics, "export.test_accuracy_drop", points)
    return f"{told}, on test {points(test.estimate)}" + (f" ({interval})" if interval else "")


def sizes_line(metrics: Mapping[str, Any]) -> str:
    """What the network weighs, each way it was counted."""
    dense = metrics.get("size.dense_fp32_bytes")
    if not dense:
        return ""
    names = {"masked": "masked", "packed": "packed", "shrunk": "shrunk", "onnx": "model.onnx"}
    told = [
        f"{name} {size(metrics[f'size.{key}_bytes'])} ({percent(metrics[f'size.{key}_bytes'] / dense)})"
        for key, name in names.items()
        if f"size.{key}_bytes" in metrics
    ]
    return f"size: dense fp32 {size(dense)}, " + ", ".join(told)


def latency_line(metrics: Mapping[str, Any], target: str, network: str = "ticket") -> Text:
    """Dense beside sparse, which is called `network`, on one target."""
    key = f"latency.{target}"
    if f"{key}.speedup" not in metrics:
        return Text(f"latency on {target}: {metrics.get(f'{key}.status', 'not measured')}")
    times = [
        f"{name} {milliseconds(metrics[f'{key}.{which}_p50_ms'])}"
        for name, which in (("dense", "dense"), (network, "sparse"), ("best dense", "best_dense"))
        if f"{key}.{which}_p50_ms" in metrics
    ]
    interval, aa = between(metrics, f"{key}.speedup", ratio), between(metrics, f"{key}.aa", ratio)
    figure = ratio(metrics[f"{key}.speedup"]) + (f" ({interval})" if interval else "")
    text = Text(f"latency on {target}, p50: {', '.join(times)}; speedup of neighbouring pairs {figure}, ")
    text.append_text(verdict_word(str(metrics.get(f"{key}.verdict", ""))))
    return text.append(f"; A/A {aa}" if aa else "")


def _probe(metrics: Mapping[str, Any], key: str) -> Text:
    _, name, level = key.split(".")
    text = Text(f"probe {name}, level {int(level.rsplit('_', 1)[1])}: ")
    text.append_text(verdict_word(str(metrics[f"{key}.verdict"])))
    for part in ("reason", "caveat"):
        if told := metrics.get(f"{key}.{part}"):
            text.append(f"; {told}")
    if metrics[f"{key}.verdict"] == "undecided":
        needed = metrics.get(f"{key}.tickets_needed")
        text.append(f"; {needed} tickets would decide" if needed else "; no number of tickets is expected to decide")
    return text.append(f". {metrics.get(f'probe.{name}.note', '')}", style="dim")


def _accuracy(metrics: Mapping[str, Any], key: str) -> Text:
    found = read.span(metrics, key)
    if found is None:
        return Text("")
    text = Text(f"{100 * found.estimate:.2f}")
    if found.low is not None and found.high is not None:
        text.append(f" ±{50 * (found.high - found.low):.2f}", style="dim")
    return text


def verdict_word(text: str) -> Text:
    """A verdict in its colour."""
    return Text(text, style=_STYLES.get(text, ""))
