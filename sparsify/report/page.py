"""The report: one self-contained HTML file, which fetches nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsify.report.export_section import export_section
from sparsify.report.levels_section import levels_section
from sparsify.report.markup import Html, element
from sparsify.report.probes_section import probes_section
from sparsify.report.provenance_section import provenance_section
from sparsify.report.sentence import dead_weight_sentence
from sparsify.report.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_report(metrics: Mapping[str, Any], *, recipe: str = "") -> str:
    """Render a run's metrics.

    Args:
        metrics: The flat mapping of `metrics.json` (`sparsify.report.metrics` has the names).
        recipe: The resolved recipe's text, shown as it is; empty leaves it out.

    Returns:
        The whole page, deterministic: the same metrics give the same bytes.
    """
    return render_page(
        metrics,
        str(metrics.get("answer") or dead_weight_sentence(metrics)),
        levels_section(metrics),
        probes_section(metrics),
        export_section(metrics),
        provenance_section(metrics, recipe),
    )


def render_page(metrics: Mapping[str, Any], answer: str, *sections: Html | None) -> str:
    """A whole page: the run's name, its answer, then the sections."""
    name = str(metrics.get("run.name", "run"))
    body = element(
        "main",
        element("h1", name),
        element("p", str(metrics["run.description"]), class_="quiet") if metrics.get("run.description") else None,
        element("p", answer, class_="answer"),
        *sections,
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{name}: sparsify report"),
        element("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"
