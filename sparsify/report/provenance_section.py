"""What ran, on what, with which versions, and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsify.report.cells import facts_list
from sparsify.report.markup import Html, element


def provenance_section(metrics: Mapping[str, Any], recipe: str) -> Html:
    """What ran, on what, with which versions, and the recipe."""
    run = [(name.removeprefix("run."), _text(value)) for name, value in metrics.items() if name.startswith("run.")]
    on = [
        (name.removeprefix("environment."), _text(value))
        for name, value in metrics.items()
        if name.startswith("environment.")
    ]
    return element(
        "section",
        element("h2", "Provenance"),
        facts_list([fact for fact in run if fact[0] != "description"]),
        element("details", element("summary", "Machine and versions"), facts_list(on)) if on else None,
        element("details", element("summary", "Recipe as resolved"), element("pre", recipe)) if recipe else None,
    )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
