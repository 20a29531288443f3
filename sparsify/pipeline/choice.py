"""Which levels match and win, and which ticket is exported: decided on validation accuracy, over replicates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.pipeline.plan import Plan, control_path, ticket_path
from sparsify.stats import LevelDecision, decide_levels


@dataclass(frozen=True)
class Curves:
    """The histories of a run's trainings, each in order of replicate.

    Attributes:
        levels: level (0 = dense) -> histories.
        controls: control -> level -> histories.
    """

    levels: Mapping[int, Sequence[Mapping[str, Any]]]
    controls: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]

    @classmethod
    def read(cls, root: Path, plan: Plan) -> Curves:
        """Read every `history.json` of the run at `root`."""
        replicates = range(plan.recipe.replicates)

        def history(path: str) -> Mapping[str, Any]:
            return json.loads((root / path / "history.json").read_text())

        return cls(
            {n: [history(ticket_path(r, n)) for r in replicates] for n in range(plan.recipe.prune.levels + 1)},
            {
                control.name: {
                    level: [history(control_path(r, level, control.name)) for r in replicates]
                    for level in control.levels
                }
                for control in plan.recipe.controls
            },
        )

    def accuracy(self, level: int) -> list[float]:
        """Validation accuracy at the last step, by replicate."""
        return [history["final_accuracy"] for history in self.levels[level]]


@dataclass(frozen=True)
class Choice:
    """The ticket to export, and on what basis it was chosen."""

    replicate: int
    level: int
    basis: str


def decide(plan: Plan, curves: Curves) -> dict[int, LevelDecision]:
    """Which levels are matching and winning."""
    matching = plan.recipe.matching
    redrawn = {
        level: [history["final_accuracy"] for history in histories]
        for level, histories in curves.controls.get("reinit", {}).items()
    }
    levels = {level: curves.accuracy(level) for level in curves.levels if level}
    images = curves.levels[0][0].get("validation_images")
    return decide_levels(
        curves.accuracy(0),
        levels,
        redrawn,
        matching.margin,
        matching.alpha,
        resolution=1 / images if images else 0.0,
    )


def choose(plan: Plan, curves: Curves, decisions: Mapping[int, LevelDecision]) -> Choice:
    """The level the recipe names, or the sparsest that holds dense accuracy; its best replicate on validation."""
    level, basis = _level(plan, curves, decisions)
    accuracy = curves.accuracy(level)
    return Choice(accuracy.index(max(accuracy)), level, basis)


def _level(plan: Plan, curves: Curves, decisions: Mapping[int, LevelDecision]) -> tuple[int, str]:
    if plan.recipe.export.level != "auto":
        return plan.recipe.export.level, "named in the recipe"
    if matching := [level for level, decision in decisions.items() if decision.matching == "matching"]:
        return max(matching), "the sparsest matching level"
    dense = _mean(curves.accuracy(0))
    margin = plan.recipe.matching.margin
    if holding := [level for level in decisions if _mean(curves.accuracy(level)) >= dense - margin]:
        return max(holding), f"no level was shown to match; the sparsest whose mean lies within {margin:g} of dense"
    return min(decisions), "no level holds dense accuracy; the least sparse"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
