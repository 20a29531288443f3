"""`--smoke`: the same recipe cut down to seconds, to see that every stage runs. Its numbers mean nothing."""

from __future__ import annotations

from sparsify.recipe.spec import Recipe
from sparsify.recipe.step import Step

_LEVELS = 2
_STEPS = Step(20, "it")


def smoke(recipe: Recipe) -> Recipe:
    """Two levels, one replicate, twenty steps, every control and probe at level 1, few pairs of latency."""
    values = recipe.model_dump()
    values["name"] = f"{recipe.name}-smoke"[:64]
    values["replicates"] = 1
    values["train"] |= {"steps": _STEPS, "eval_every": Step(10, "it")}
    values["train"]["schedule"] = {"name": "constant"}
    values["prune"]["levels"] = min(recipe.prune.levels, _LEVELS)
    if isinstance(recipe.prune.rewind, Step) and recipe.prune.rewind.count:
        values["prune"]["rewind"] = Step(5, "it")
    values["controls"] = [control.model_dump() | {"levels": (1,)} for control in recipe.controls]
    values["probes"] = [probe.model_dump() | {"levels": (1,), "redraws": 1} for probe in recipe.probes]
    values["export"]["level"] = "auto"
    values["latency"] |= {"pairs": 20, "launches": 1}
    return Recipe.model_validate(values)
