"""`held`: a run folder, opened for one recipe and held by this process until the work is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sparsify.data.prepare import prepare
from sparsify.pipeline.observer import Observer, Silent
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.scheduler import Scheduler, default_threads, default_workers, stopped_by_signals
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import Recipe
from sparsify.store.atomic import sweep
from sparsify.store.lock import RunLock
from sparsify.store.run import Run


@dataclass(frozen=True)
class Held:
    """A run folder whose lock this process holds, and its recipe.

    Attributes:
        folder: the run folder; orphans of a killed run are swept, the data is at hand.
        recipe: what it belongs to.
        observer: told what happens.
        stop: set by SIGTERM and SIGINT.
    """

    folder: Run
    recipe: Recipe | PruneRecipe
    observer: Observer
    stop: threading.Event

    def scheduler(self, device: str, reuse: tuple[Path, ...], on_change: Callable[[], None]) -> Scheduler:
        """A scheduler of its stages; `on_change` is called once, before the first is added."""
        compute = self.recipe.compute
        # One thread where stages run side by side: with two and a busy neighbour, the pair spins most of its time.
        alone = isinstance(self.recipe, PruneRecipe)
        threads = default_threads() if alone else 1
        return Scheduler(
            self.folder.root,
            workers=default_workers(device) if compute.workers == "auto" else compute.workers,
            threads=threads if compute.threads == "auto" else compute.threads,
            checkpoint_seconds=compute.checkpoint_seconds,
            observer=self.observer,
            shelf=Shelf(reuse),
            on_change=on_change,
            stop=self.stop,
        )


@contextmanager
def held(recipe: Recipe | PruneRecipe, run_dir: Path | None, observer: Observer | None) -> Generator[Held]:
    """Hold the run folder, `runs/NAME` where none is given; signals ask for a checkpoint while inside.

    Raises:
        UsageError: the folder belongs to another recipe.
        BusyError: another process holds it.
        InputOutputError: the data is not here and cannot be had.
    """
    root = run_dir or Path("runs") / recipe.name
    watcher = observer or Silent()
    stop = threading.Event()
    with stopped_by_signals(stop), RunLock(root):
        folder = Run.open(root, resolved_yaml(recipe), recipe.model_dump(mode="json"))
        sweep(root)
        prepare(recipe.data, quiet=isinstance(watcher, Silent))
        try:
            yield Held(folder, recipe, watcher, stop)
        finally:
            watcher.close()
