"""`--dry-run`: which stages are complete, which would run, and how long that takes by what ran here before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from sparsify.pipeline.choice import Curves, choose, decide
from sparsify.pipeline.observer import Silent
from sparsify.pipeline.plan import Plan
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.scheduler import Scheduler, default_workers
from sparsify.pipeline.stage import Stage
from sparsify.recipe.spec import Recipe
from sparsify.store.layout import STAGE
from sparsify.store.run import Run

State = Literal["complete", "to run"]


@dataclass(frozen=True)
class DryRun:
    """The plan of a run.

    Attributes:
        root: the run folder.
        stages: path -> (kind, state), in the order they would be begun.
        estimate_s: wall-clock seconds for what is to run; None where nothing of a kind has run here yet.
        chosen: whether the ticket to export is known; until then its export and latency count as to run.
    """

    root: Path
    stages: dict[str, tuple[str, State]]
    estimate_s: float | None
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run_dir": str(self.root),
            "estimate_s": self.estimate_s,
            "chosen": self.chosen,
            "stages": [{"path": path, "kind": kind, "state": state} for path, (kind, state) in self.stages.items()],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for path, (kind, state) in self.stages.items():
            yield f"{state:8}  {kind:9}  {path}"
        count = Counter(state for _, state in self.stages.values())
        time = "no estimate before a stage ran" if self.estimate_s is None else f"about {self.estimate_s:.0f} s"
        yield f"{self.root}: {count['complete']} complete, {count['to run']} to run, {time}"
        if not self.chosen:
            yield "Which ticket is exported and timed, validation decides when all tickets are here."


def dry_run(recipe: Recipe, run_dir: Path | None, *, reuse: tuple[Path, ...] = ()) -> DryRun:
    """What `run` would do; nothing is written.

    Raises:
        UsageError: the folder belongs to another recipe.
        CorruptError: a complete stage is damaged.
    """
    root = run_dir or Path("runs") / recipe.name
    plan = Plan.of(recipe)
    if root.exists():
        Run.check(root, recipe.model_dump(mode="json"))
    compute = recipe.compute
    workers = default_workers(plan.device) if compute.workers == "auto" else compute.workers
    scheduler = Scheduler(root, workers=workers, checkpoint_seconds=0, observer=Silent())
    shelf = Shelf(reuse)
    trained = [*plan.tickets(), *plan.probes(), plan.test()]
    states = states_of(trained, scheduler, shelf)
    chosen = root.exists() and all((root / stage.path / STAGE).is_file() for stage in plan.tickets())
    exported = [*_exports(plan, root if chosen else None), *plan.latencies()]
    states |= states_of(exported, scheduler, shelf)
    return DryRun(root, states, _estimate(root, [*trained, *exported], states, workers), chosen)


def _exports(plan: Plan, root: Path | None) -> list[Stage]:
    """Those of the ticket that the trainings at `root` choose; where they are not all there, of any: equal folders."""
    if root is None:
        return plan.exports(0, 0)
    curves = Curves.read(root, plan)
    choice = choose(plan, curves, decide(plan, curves))
    return plan.exports(choice.replicate, choice.level)


def states_of(stages: list[Stage], scheduler: Scheduler, shelf: Shelf) -> dict[str, tuple[str, State]]:
    """Path -> (kind, state) of each, in the order given, in which parents come first."""
    states: dict[str, tuple[str, State]] = {}
    for stage in stages:
        done = scheduler.complete(stage)
        if not done and (digest := shelf.digest(scheduler.key(stage) or "")) is not None:
            scheduler.assume(stage, digest)
            done = True
        states[stage.path] = (stage.kind, "complete" if done else "to run")
    return states


def _estimate(root: Path, stages: list[Stage], states: dict[str, tuple[str, State]], workers: int) -> float | None:
    """Median time of the stages of each kind that ran here; dense stands in for other trainings."""
    taken: dict[str, list[float]] = {}
    if root.exists():
        for record in Run.load(root).stages().values():
            taken.setdefault(record.kind, []).append(record.elapsed_s)
    typical = {kind: median(seconds) for kind, seconds in taken.items()}
    if not typical:
        return None
    trainings = typical.get("level", typical.get("dense", 0.0))
    waiting = [stage.kind for stage in stages if states[stage.path][1] == "to run"]
    return sum(typical.get(kind, trainings) for kind in waiting) / workers
