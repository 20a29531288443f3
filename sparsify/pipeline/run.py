"""`run`: a recipe's stages in order, phase by phase, and what the numbers then say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sparsify.data.prepare import prepare
from sparsify.errors import UsageError
from sparsify.pipeline.choice import Curves, choose, decide
from sparsify.pipeline.observer import Observer, Silent
from sparsify.pipeline.outcome import Outcome, stored_outcome, write_outcome
from sparsify.pipeline.plan import Plan
from sparsify.pipeline.preflight import preflight
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.scheduler import Scheduler, default_workers, stopped_by_signals
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.spec import Recipe
from sparsify.store.atomic import sweep
from sparsify.store.lock import RunLock
from sparsify.store.run import Run

Phase = str
PHASES: tuple[Phase, ...] = ("tickets", "probes", "test", "export", "latency")


def run(
    recipe: Recipe,
    run_dir: Path | None = None,
    *,
    only: Phase | None = None,
    reuse: tuple[Path, ...] = (),
    observer: Observer | None = None,
) -> Outcome | None:
    """Run a recipe, whole or from where it stopped; the same call resumes.

    Args:
        recipe: what to run.
        run_dir: the run folder; `runs/NAME` where none is given.
        only: the phase to stop after; None runs all.
        reuse: run folders whose stages of equal key are taken by hard link.
        observer: told what happens; None says nothing.

    Returns:
        The metrics and where the report is, or None when `only` stopped the run before its end.

    Raises:
        UsageError: the folder belongs to another recipe, or `only` names no phase.
        BusyError: another process holds the folder.
        CorruptError: a complete stage is damaged.
        Preempted: stopped by a signal, resumable.
        SparsifyError: a stage failed.
    """
    if only is not None and only not in PHASES:
        raise UsageError(f"--only: expected one of {', '.join(PHASES)}, got {only}")
    root = run_dir or Path("runs") / recipe.name
    watcher = observer or Silent()
    stop = threading.Event()
    with stopped_by_signals(stop), RunLock(root):
        folder = Run.open(root, resolved_yaml(recipe), recipe.model_dump(mode="json"))
        sweep(root)
        prepare(recipe.data, quiet=observer is None or isinstance(observer, Silent))
        session = _Session(folder, Plan.of(recipe), Shelf(reuse), watcher, only or PHASES[-1], stop)
        try:
            with session.scheduler:
                return session.run()
        finally:
            watcher.close()


class _Session:
    """One call of `run`: the phases, each needing what the one before it decided."""

    def __init__(
        self, folder: Run, plan: Plan, shelf: Shelf, observer: Observer, last: Phase, stop: threading.Event
    ) -> None:
        self._folder, self._plan, self._last = folder, plan, last
        compute = plan.recipe.compute
        workers = default_workers(plan.device) if compute.workers == "auto" else compute.workers
        self.scheduler = Scheduler(
            folder.root,
            workers=workers,
            checkpoint_seconds=compute.checkpoint_seconds,
            observer=observer,
            shelf=shelf,
            on_change=self._begin,
            stop=stop,
        )

    def _begin(self) -> None:
        """Before the first stage is added: refuse what could only fail hours later."""
        preflight(self._plan, exports=PHASES.index(self._last) >= PHASES.index("export"))
        self._folder.unfinish()

    def run(self) -> Outcome | None:
        self.scheduler.run(self._plan.tickets())
        curves = Curves.read(self._folder.root, self._plan)
        decisions = decide(self._plan, curves)
        choice = choose(self._plan, curves, decisions)
        phases: Mapping[Phase, Callable[[], None]] = {
            "tickets": lambda: None,
            "probes": lambda: self.scheduler.run(self._plan.probes()),
            "test": lambda: self.scheduler.run([self._plan.test()]),
            "export": lambda: self.scheduler.run(self._plan.exports(choice.replicate, choice.level)),
            "latency": self._measure,
        }
        for phase in PHASES[: PHASES.index(self._last) + 1]:
            phases[phase]()
        if self._last != PHASES[-1]:
            return None
        stored = None if self.scheduler.changed else stored_outcome(self._folder)
        return stored or write_outcome(self._folder, self._plan, curves, decisions, choice)

    def _measure(self) -> None:
        """Latency, one target at a time, with no other worker beside it."""
        for stage in self._plan.latencies():
            self.scheduler.run([stage])
