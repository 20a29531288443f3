"""`prune`: a trained network, the removal that meets the target within the drop, and what the numbers then say."""

from __future__ import annotations

import threading
from pathlib import Path

from sparsify.data.prepare import prepare
from sparsify.pipeline.observer import Observer, Silent
from sparsify.pipeline.outcome import Outcome, stored_outcome
from sparsify.pipeline.preflight import preflight_targets
from sparsify.pipeline.prune_outcome import write_prune_outcome
from sparsify.pipeline.prune_plan import PrunePlan
from sparsify.pipeline.prune_search import Chosen, Search
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.scheduler import Scheduler, default_workers, stopped_by_signals
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.store.atomic import sweep
from sparsify.store.lock import RunLock
from sparsify.store.run import Run


def prune(
    recipe: PruneRecipe,
    run_dir: Path | None = None,
    *,
    reuse: tuple[Path, ...] = (),
    observer: Observer | None = None,
) -> Outcome:
    """Run a prune recipe, whole or from where it stopped; the same call resumes.

    Args:
        recipe: what to run.
        run_dir: the run folder; `runs/NAME` where none is given.
        reuse: run folders whose stages of equal key are taken by hard link.
        observer: told what happens; None says nothing.

    Returns:
        The metrics and where the report is. Whether the target was met stands in `target.outcome`.

    Raises:
        UsageError: the folder belongs to another recipe, or the recipe asks for what cannot be had.
        BusyError: another process holds the folder.
        CorruptError: a stage or a checkpoint is damaged, or the weights' file would run code.
        Preempted: stopped by a signal, resumable.
        SparsifyError: a stage failed.
    """
    root = run_dir or Path("runs") / recipe.name
    watcher = observer or Silent()
    stop = threading.Event()
    with stopped_by_signals(stop), RunLock(root):
        folder = Run.open(root, resolved_yaml(recipe), recipe.model_dump(mode="json"))
        sweep(root)
        prepare(recipe.data, quiet=isinstance(watcher, Silent))
        plan = PrunePlan.of(recipe)

        def begin() -> None:
            preflight_targets(recipe.export.targets, recipe.latency.threads)
            folder.unfinish()

        scheduler = Scheduler(
            root,
            workers=default_workers(plan.source.device) if recipe.compute.workers == "auto" else recipe.compute.workers,
            checkpoint_seconds=recipe.compute.checkpoint_seconds,
            observer=watcher,
            shelf=Shelf(reuse),
            on_change=begin,
            stop=stop,
        )
        try:
            with scheduler:
                chosen = _stages(plan, scheduler, root)
                stored = None if scheduler.changed else stored_outcome(folder)
                return stored or write_prune_outcome(folder, plan, chosen)
        finally:
            watcher.close()


def _stages(plan: PrunePlan, scheduler: Scheduler, root: Path) -> Chosen:
    """Search, then make, test, export and time what was chosen."""
    chosen = Search(plan, scheduler, root).run()
    scheduler.run([plan.model(chosen.network)])
    scheduler.run([plan.test(), *plan.exports(chosen.network)])
    for latency in plan.latencies():  # one at a time, with nothing beside it
        scheduler.run([latency])
    return chosen
