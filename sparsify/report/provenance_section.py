"""What ran, on what, with which versions, and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsify.report.cells import facts_list, told
from sparsify.report.markup import Html, element

_RUN = ("name", "model", "data", "preprocessing", "pattern", "replicates", "seed")


def provenance_section(metrics: Mapping[str, Any], recipe: str) -> Html:
    """What ran, on what, with which versions, and the recipe."""
    run = [(name, told(metrics[f"run.{name}"])) for name in _RUN if f"run.{name}" in metrics]
    on = sorted((name, told(value)) for name, value in metrics.items() if name.startswith("environment."))
    machine = [(name.removeprefix("environment."), value) for name, value in on]
    return element(
        "section",
        element("h2", "Provenance"),
        facts_list(run),
        element("details", element("summary", "Machine and versions"), facts_list(machine)) if on else None,
        element("details", element("summary", "Recipe as resolved"), element("pre", recipe)) if recipe else None,
    )
