"""`sparsify prune --dry-run`: what of the network can be pruned, how far, and which stages would run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.api.preflight import PreflightReport
from sparsify.data.load import load
from sparsify.pipeline.dry_run import State, states_of
from sparsify.pipeline.observer import Silent
from sparsify.pipeline.preflight import doubts
from sparsify.pipeline.prune_inputs import with_known_input
from sparsify.pipeline.prune_plan import PrunePlan, below
from sparsify.pipeline.prune_specs import PruneStageSpec
from sparsify.pipeline.prune_work import look_over
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.scheduler import Scheduler
from sparsify.pipeline.stage import Stage
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.store.run import Run


@dataclass(frozen=True)
class PruneDryRun:
    """What a prune run would do.

    Attributes:
        root: the run folder.
        network: what of the network can be pruned, and how far.
        stages: path -> (kind, state), in the order they would be begun.
        searched: which of them repeat, and how often at most, where the target is searched for; else empty.
        doubts: what is said before such a run begins.
    """

    root: Path
    network: PreflightReport
    stages: dict[str, tuple[str, State]]
    searched: str
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run_dir": str(self.root),
            "network": self.network.to_json(),
            "stages": [{"path": path, "kind": kind, "state": state} for path, (kind, state) in self.stages.items()],
            "searched": self.searched,
            "doubts": list(self.doubts),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield str(self.network)
        yield ""
        for path, (kind, state) in self.stages.items():
            yield f"{state:8}  {kind:9}  {path}"
        if self.searched:
            yield self.searched
        yield from (f"warning: {doubt}" for doubt in self.doubts)
        yield f"{self.root}: nothing was written."


def dry_run(recipe: PruneRecipe, run_dir: Path | None, *, reuse: tuple[Path, ...] = ()) -> PruneDryRun:
    """Open the network, see what of it can be pruned, and lay out the stages; nothing is written.

    Raises:
        UsageError: the recipe asks for what cannot be had, or the folder belongs to another recipe.
        InputOutputError: the weights or the data are not here.
        CorruptError: a complete stage is damaged, or the weights' file would run code.
    """
    recipe, _ = with_known_input(recipe)
    root = run_dir or Path("runs") / recipe.name
    plan = PrunePlan.of(recipe)
    if root.exists():
        Run.check(root, recipe.model_dump(mode="json"))
    spec = plan.preflight().spec
    assert isinstance(spec, PruneStageSpec)
    found, refusal = look_over(spec, load(recipe.data, trained=True))
    scheduler = Scheduler(root, workers=1, checkpoint_seconds=0, observer=Silent())
    stages, searched = _stages(plan)
    doubted = [*doubts(recipe), *([f"it would be refused: {refusal}"] if refusal else [])]
    return PruneDryRun(root, found, states_of(stages, scheduler, Shelf(reuse)), searched, tuple(doubted))


def _stages(plan: PrunePlan) -> tuple[list[Stage], str]:
    """The stages as far as they are known beforehand, and what of a search is not."""
    target = plan.recipe.target
    known = plan.recipe.sparsity is not None or target.macs is not None
    pruned = plan.first()
    network = plan.recovered(pruned)
    tried = [] if known else [*plan.exports(pruned, below(pruned))[:1]]
    if not known and target.size is None:
        tried += plan.latencies(below(pruned))[:1]
    recovered = [network] if network is not pruned else []
    last = [plan.model(network), plan.test(), *plan.exports(network), *plan.latencies()]
    searched = ""
    if not known:
        searched = (
            f"The sparsity is searched for: up to {target.trials} trials, each removed, exported and measured as "
            f"{pruned.path} is; what is kept is recovered, exported and timed."
        )
    elif target.max_drop is not None:
        searched = "Where the drop is larger than allowed, up to four smaller removals are tried, with recovery."
    return [plan.preflight(), plan.dense(), pruned, *tried, *recovered, *last], searched
