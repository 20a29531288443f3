"""The exported ticket: why this one, what it weighs three ways, and how fast it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparsify.report import read
from sparsify.report.cells import facts_list, figure, table, told, word
from sparsify.report.markup import Html, element, join
from sparsify.report.words import between, milliseconds, percent, points, ratio, size


def export_section(metrics: Mapping[str, Any]) -> Html | None:
    """What was exported, what it weighs three ways, and how fast it runs."""
    if "export.level" not in metrics:
        return None
    level, why = metrics["export.level"], metrics.get("export.reason", "")
    drop = read.span(metrics, "export.accuracy_drop")
    facts = [("level", f"{level}" + (f" ({why})" if why else ""))]
    if "export.sparsity" in metrics:
        facts.append(("sparsity", percent(metrics["export.sparsity"])))
    if drop is not None:
        around = between(metrics, "export.accuracy_drop", points) or "no interval: one replicate"
        facts.append(("drop in validation accuracy", f"{points(drop.estimate)} points ({around}), dense minus ticket"))
    return element(
        "section",
        element("h2", "Exported ticket"),
        facts_list(facts),
        sizes_table(metrics),
        latency_table(metrics),
        *[how_measured(metrics, target) for target in read.targets(metrics)],
    )


def sizes_table(metrics: Mapping[str, Any]) -> Html | None:
    """What it weighs, three ways; None where nothing was exported."""
    dense = metrics.get("size.dense_fp32_bytes")
    if not dense:
        return None
    kinds = (
        ("dense fp32", "dense_fp32", "the original network"),
        ("masked", "masked", "zeros written out: what a plain file of it weighs"),
        ("packed", "packed", "a bit per weight and the survivors, compressed: for storage and transfer"),
        ("shrunk", "shrunk", "dead channels physically removed: a smaller dense network"),
        ("model.onnx", "onnx", "graph and weights: what the runtime loads"),
    )
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", size(metrics[f"size.{key}_bytes"]), class_="number"),
            element("td", percent(metrics[f"size.{key}_bytes"] / dense), class_="number"),
            element("td", what),
        )
        for name, key, what in kinds
        if f"size.{key}_bytes" in metrics
    ]
    return join(element("h3", "Size on disk"), table(["", "bytes", "of dense", "what it is"], rows, numeric=(1, 2)))


def latency_table(metrics: Mapping[str, Any], network: str = "ticket") -> Html | None:
    """Dense beside sparse on every target; None where there is none. `network` is what the sparse one is called."""
    targets = read.targets(metrics)
    if not targets:
        return None
    head = ["target", "dense fp32 p50", f"{network} p50", "speedup", "verdict", "A/A", "best dense", "how"]
    rows = [_latency_row(metrics, target, network) for target in targets]
    note = (
        f"Speedup is the median ratio of interleaved pairs, dense over {network}: above 1 the {network} is faster. "
        "A/A is dense against itself, measured first: what this machine can resolve."
    )
    return join(
        element("h3", "Latency"), table(head, rows, numeric=(1, 2, 3, 5, 6)), element("p", note, class_="quiet")
    )


def _latency_row(metrics: Mapping[str, Any], target: str, network: str) -> Html:
    key = f"latency.{target}"
    name = element("th", target, scope="row")
    if f"{key}.speedup" not in metrics:
        return element("tr", name, element("td", metrics.get(f"{key}.status", ""), colspan="7"))

    def time(which: str) -> str:
        value = metrics.get(f"{key}.{which}_p50_ms")
        return "" if value is None else milliseconds(value)

    best = metrics.get(f"{key}.best_dense")
    how = [f"{metrics[f'{key}.{part}']} {part}" for part in ("pairs", "launches") if f"{key}.{part}" in metrics]
    return element(
        "tr",
        name,
        element("td", time("dense"), class_="number"),
        element("td", time("sparse"), class_="number"),
        element("td", figure(metrics, f"{key}.speedup", ratio), class_="number"),
        element("td", word(metrics.get(f"{key}.verdict", "")), element("small", metrics.get(f"{key}.reason", ""))),
        element("td", figure(metrics, f"{key}.aa", ratio), class_="number"),
        element(
            "td",
            join(f"{best} {time('best_dense')}", _small(metrics, f"{key}.best_dense_speedup", network))
            if best
            else "not measured",
            class_="number",
        ),
        element("td", ", ".join(how)),
    )


def _small(metrics: Mapping[str, Any], key: str, network: str) -> Html | None:
    found = read.span(metrics, key)
    return None if found is None else element("small", f"{network} {ratio(found.estimate)}")


def how_measured(metrics: Mapping[str, Any], target: str) -> Html | None:
    """All that explains a target's figures and stands in no table: threads, versions, load, parity with PyTorch."""
    shown = r"(status|verdict|reason|pairs|launches|.*p50_ms|(speedup|aa|best_dense\w*)(\.ci_\w+)?)$"
    facts: list[tuple[str, str]] = []
    for key, prefix in ((f"latency.{target}.", ""), (f"export.parity.{target}.", "parity ")):
        for name in metrics:
            rest = name.removeprefix(key)
            if name.startswith(key) and (prefix or not re.match(shown, rest)):
                facts.append((prefix + rest.replace("_", " ").replace(".", " "), told(metrics[name])))
    if not facts:
        return None
    return element("details", element("summary", f"How {target} was measured"), facts_list(sorted(facts)))
