"""The report of a prune run: asked against achieved, what it cost, what it gained, layer by layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparsify.report import read
from sparsify.report.cells import facts_list, figure, table, told, word
from sparsify.report.export_section import how_measured, latency_table, sizes_table
from sparsify.report.markup import Html, element, join
from sparsify.report.page import render_page
from sparsify.report.provenance_section import provenance_section
from sparsify.report.prune_sentence import (
    achieved_told,
    asked_told,
    drop_told,
    is_masked,
    is_share,
    pattern_told,
    target_told,
)
from sparsify.report.words import percent

_NETWORK = {"dense": "as it was given", "pruned": "before recovery", "recovered": "after recovery"}
_LAYER = re.compile(r"^layer\.(.+)\.sparsity$")
_CHANNELS = re.compile(r"^channels\.(.+)\.before$")


def render_prune_report(metrics: Mapping[str, Any], *, recipe: str = "") -> str:
    """One self-contained page; the same metrics give the same bytes.

    Args:
        metrics: The flat mapping of `metrics.json` (`prune_metrics` has the names).
        recipe: The resolved recipe's text; empty leaves it out.
    """
    return render_page(
        metrics,
        str(metrics["answer"]),
        _target_section(metrics),
        _networks_section(metrics),
        _search_section(metrics),
        _gains_section(metrics),
        _layers_section(metrics),
        _channels_section(metrics),
        provenance_section(metrics, recipe),
    )


def _target_section(metrics: Mapping[str, Any]) -> Html:
    facts = [
        ("asked", asked_told(metrics)),
        ("achieved", achieved_told(metrics)),
        ("kept", str(metrics["target.reason"])),
        ("removed", f"{percent(metrics['export.sparsity'])} of the prunable weights ({pattern_told(metrics)})"),
        ("work left", f"{percent(metrics['export.macs_fraction'])} of the multiplications, were zeros skipped nowhere"),
        ("drop on validation", f"{drop_told(metrics, 'export.drop')}, dense minus kept, paired example by example"),
        ("drop on test", f"{drop_told(metrics, 'export.test_drop')}, read once"),
    ]
    if "target.max_drop" in metrics:
        facts.insert(2, ("largest drop allowed", told(metrics["target.max_drop"])))
    return element("section", element("h2", "Target ", word(str(metrics["target.outcome"]))), facts_list(facts))


def _networks_section(metrics: Mapping[str, Any]) -> Html:
    metric = str(metrics["run.metric"]).replace("_", " ")
    shown = percent if is_share(metrics) else _plain
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", figure(metrics, f"network.{name}.validation", shown), class_="number"),
            element("td", f"{metrics[f'network.{name}.macs']:,}", class_="number"),
            element("td", f"{metrics[f'network.{name}.parameters']:,}", class_="number"),
            element("td", what),
        )
        for name, what in _NETWORK.items()
        if f"network.{name}.macs" in metrics
    ]
    head = ["network", f"{metric} on validation", "MACs", "parameters", ""]
    return element("section", element("h2", "Quality"), table(head, rows, numeric=(1, 2, 3)))


def _search_section(metrics: Mapping[str, Any]) -> Html | None:
    keys = sorted({name.partition(".")[0] for name in metrics if name.startswith("trial_")})
    if not keys:
        return None
    amount = "macs" if any(f"{key}.macs" in metrics for key in keys) else "sparsity"
    rows = [
        element(
            "tr",
            element("td", percent(metrics[f"{key}.{amount}"]), class_="number"),
            element("td", target_told(metrics, f"{key}.achieved") if f"{key}.achieved" in metrics else ""),
            element("td", drop_told(metrics, f"{key}.drop") if f"{key}.drop" in metrics else ""),
            element("td", word(str(metrics.get(f"{key}.outcome", "")))),
        )
        for key in keys
    ]
    head = ["MACs left" if amount == "macs" else amount, str(metrics["target.kind"]), "drop", "target"]
    return element("section", element("h2", "Search"), table(head, rows, numeric=(0,)))


def _gains_section(metrics: Mapping[str, Any]) -> Html:
    return element(
        "section",
        element("h2", "What it gains"),
        sizes_table(metrics),
        latency_table(metrics, "pruned"),
        *[how_measured(metrics, target) for target in read.targets(metrics)],
    )


def _layers_section(metrics: Mapping[str, Any]) -> Html:
    rows = list(_layer_rows(metrics))
    skipped = {name.removeprefix("skipped."): str(why) for name, why in metrics.items() if name.startswith("skipped.")}
    left = facts_list(sorted(skipped.items())) if skipped else None
    return element(
        "section",
        element("h2", "Layer by layer"),
        table(["weight", "shape", "was", "sparsity"], rows, numeric=(3,)),
        join(element("h3", "Left as it was, and why"), left) if left else None,
    )


def _channels_section(metrics: Mapping[str, Any]) -> Html | None:
    names = [match[1] for key in metrics if (match := _CHANNELS.match(key))]
    if not names:
        return None
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", f"{metrics[f'channels.{name}.before']:,}", class_="number"),
            element("td", f"{metrics[f'channels.{name}.after']:,}", class_="number"),
            element("td", str(metrics.get(f"channels.{name}.coupled", ""))),
        )
        for name in names
    ]
    masked = is_masked(metrics)
    head = ["layer", "channels", "not masked" if masked else "left", "coupled with"]
    title = "Channels, masked and not removed" if masked else "Channels"
    return element("section", element("h2", title), table(head, rows, numeric=(1, 2)))


def _layer_rows(metrics: Mapping[str, Any]) -> Iterator[Html]:
    for key in metrics:
        if match := _LAYER.match(key):
            name = match[1]
            yield element(
                "tr",
                element("th", name, scope="row"),
                element("td", _shape(metrics[f"layer.{name}.shape"])),
                element("td", _shape(metrics[f"layer.{name}.dense_shape"])),
                element("td", percent(metrics[key]), class_="number"),
            )


def _shape(sides: list[int]) -> str:
    return " x ".join(map(str, sides))


def _plain(value: float) -> str:
    return f"{value:.4f}"
