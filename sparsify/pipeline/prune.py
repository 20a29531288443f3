"""`prune`: a trained network, the removal that meets the target within the drop, and what the numbers then say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsify.data.preprocessing import Preprocessing
from sparsify.pipeline.chance import near_chance
from sparsify.pipeline.held import held
from sparsify.pipeline.observer import Observer
from sparsify.pipeline.outcome import Outcome, stored_outcome
from sparsify.pipeline.preflight import doubts, preflight_targets
from sparsify.pipeline.prune_inputs import with_known_input
from sparsify.pipeline.prune_outcome import write_prune_outcome
from sparsify.pipeline.prune_plan import PrunePlan
from sparsify.pipeline.prune_search import Chosen, Search
from sparsify.pipeline.scheduler import Scheduler
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import DataSpec


def prune(
    recipe: PruneRecipe,
    run_dir: Path | None = None,
    *,
    reuse: tuple[Path, ...] = (),
    observer: Observer | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """Run a prune recipe, whole or from where it stopped; the same call resumes.

    Args:
        recipe: what to run.
        run_dir: the run folder; `runs/NAME` where none is given.
        reuse: run folders whose stages of equal key are taken by hard link.
        observer: told what happens; None says nothing.
        notes: what the observer is told besides, once it is known that the run can do what is asked.

    Returns:
        The metrics and where the report is. Whether the target was met stands in `target.outcome`.

    Raises:
        UsageError: the folder belongs to another recipe, or the recipe asks for what cannot be had.
        BusyError: another process holds the folder.
        CorruptError: a stage or a checkpoint is damaged, or the weights' file would run code.
        Preempted: stopped by a signal, resumable.
        SparsifyError: a stage failed.
    """
    recipe, fed = with_known_input(recipe)
    with held(recipe, run_dir, observer) as run_folder:
        plan, watcher = PrunePlan.of(recipe), run_folder.observer
        checked = False

        def begin() -> None:
            preflight_targets(recipe.export.targets, recipe.latency.threads)
            run_folder.folder.unfinish()
            if checked:
                tell()

        def tell() -> None:
            for note in filter(None, (fed, *notes)):
                watcher.noted(note)
            for doubt in doubts(recipe):
                watcher.warned(doubt)

        with run_folder.scheduler(plan.source.device, reuse, begin) as scheduler:
            _announce(plan, watcher)
            scheduler.run([plan.preflight()])
            checked = True
            if scheduler.changed:
                tell()
            chosen = _stages(plan, scheduler, run_folder.folder.root, watcher)
            stored = None if scheduler.changed else stored_outcome(run_folder.folder)
            return stored or write_prune_outcome(run_folder.folder, plan, chosen)


def _fed_unasked(dense: Path, data: DataSpec) -> str:
    """How examples are fed, where neither the recipe nor the network's source says it; it may be trained otherwise."""
    fed = Preprocessing.found(dense)
    if fed is None or fed.kind == "texts" or "normalize" in data.model_fields_set:
        return ""
    return f"data: {fed.told}; where the network was trained otherwise, say --normalize (none: values as they lie)"


def _announce(plan: PrunePlan, observer: Observer) -> None:
    """Whatever is chosen, these are its folders."""
    dense = plan.dense()
    known = [plan.preflight(), dense, plan.model(dense), plan.test(), *plan.exports(dense), *plan.latencies()]
    observer.planned([stage.path for stage in known], more=True)


def _stages(plan: PrunePlan, scheduler: Scheduler, root: Path, observer: Observer) -> Chosen:
    """Search, then make, test, export and time what was chosen."""
    dense = plan.dense()
    scheduler.run([dense])
    if scheduler.changed and (unasked := _fed_unasked(root / dense.path, plan.recipe.data)):
        observer.noted(unasked)
    if doubt := near_chance(root / dense.path, plan.recipe.data):
        observer.warned(doubt)
    chosen = Search(plan, scheduler, root).run()
    observer.planned((), more=False)
    scheduler.run([plan.model(chosen.network)])
    scheduler.run([plan.test(), *plan.exports(chosen.network)])
    for latency in plan.latencies():  # one at a time, with nothing beside it
        scheduler.run([latency])
    return chosen
