"""The probes: verdict, its two intervals, and what became of every arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sparsify.report import read
from sparsify.report.cells import accuracy, facts_list, figure, table, three_places, word
from sparsify.report.markup import Html, element, join
from sparsify.report.words import between


def probes_section(metrics: Mapping[str, Any]) -> Html | None:
    """Each probe, each level: verdict, its two intervals, and the arms."""
    names = read.probes(metrics)
    if not names:
        return None
    parts: list[Html] = []
    for name in names:
        note = metrics.get(f"probe.{name}.note")
        parts += [element("h2", f"Probe: {name}"), element("p", note, class_="quiet") if note else Html("")]
        parts += [_probed(metrics, key) for key in read.probed(metrics, name)]
    return element("section", *parts)


def _probed(metrics: Mapping[str, Any], key: str) -> Html:
    level = int(key.rsplit("_", 1)[1])
    needed, caveat = metrics.get(f"{key}.tickets_needed"), metrics.get(f"{key}.caveat")
    facts = [("tickets", str(metrics.get(f"{key}.tickets", "")))]
    for name, label in (
        ("kept_over_ceiling", "IoU of rest-redrawn / ceiling"),
        ("kept_minus_random", "IoU of rest-redrawn - random-kept"),
    ):
        if (found := read.span(metrics, f"{key}.{name}")) is not None:
            told = between(metrics, f"{key}.{name}", three_places)
            facts.append((label, three_places(found.estimate) + (f" ({told})" if told else " (no interval)")))
    if needed:
        facts.append(("would decide", f"about {needed} tickets, if the estimates and their spread hold"))
    elif metrics[f"{key}.verdict"] == "undecided":
        facts.append(
            ("would decide", "no number of tickets, if the estimates hold: neither lies alone on a deciding side")
        )
    if caveat:
        facts.append(("caveat", caveat))
    heading = element("h3", f"Level {level} ", word(metrics[f"{key}.verdict"]))
    return join(heading, element("p", metrics.get(f"{key}.reason", "")), facts_list(facts), _arms(metrics, key))


_ARM_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("accuracy", "validation accuracy", accuracy),
    ("early_stop_step", "early stop", lambda value: f"{value:,.0f}"),
    ("iou", "IoU with ticket", three_places),
    ("iou_chance", "IoU by chance", three_places),
    ("ticket_weights_alone_accuracy", "ticket's weights alone", accuracy),
    ("rest_alone_accuracy", "rest alone", accuracy),
)


def _arms(metrics: Mapping[str, Any], key: str) -> Html:
    figures = [
        f for f in _ARM_FIGURES if any(f"{key}.arm.{arm}.{f[0]}.mean" in metrics for arm in read.arms(metrics, key))
    ]
    rows = [
        element(
            "tr",
            element("th", arm, scope="row"),
            *[
                element("td", figure(metrics, f"{key}.arm.{arm}.{name}", shown), class_="number")
                for name, _, shown in figures
            ],
        )
        for arm in read.arms(metrics, key)
    ]
    head = ["arm", *[label for _, label, _ in figures]]
    return table(head, rows, numeric=range(1, len(head)))
