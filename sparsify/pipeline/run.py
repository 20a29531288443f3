"""`run`: a recipe's stages in order, phase by phase, and what the numbers then say."""

from __future__ import annotations

from pathlib import Path

from sparsify.errors import UsageError
from sparsify.pipeline.choice import Curves, choose, decide
from sparsify.pipeline.held import Held, held
from sparsify.pipeline.observer import Observer
from sparsify.pipeline.outcome import Outcome, stored_outcome, write_outcome
from sparsify.pipeline.plan import Plan
from sparsify.pipeline.preflight import preflight
from sparsify.pipeline.stage import Stage
from sparsify.recipe.spec import Recipe

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
    with held(recipe, run_dir, observer) as run_folder:
        session = _Session(run_folder, Plan.of(recipe), reuse, only or PHASES[-1])
        with session.scheduler:
            return session.run()


class _Session:
    """One call of `run`: the phases, each needing what the one before it decided."""

    def __init__(self, run_folder: Held, plan: Plan, reuse: tuple[Path, ...], last: Phase) -> None:
        self._folder, self._plan, self._last = run_folder.folder, plan, last
        self._observer = run_folder.observer
        self.scheduler = run_folder.scheduler(plan.device, reuse, self._begin)

    def _begin(self) -> None:
        """Before the first stage is added: refuse what could only fail hours later."""
        preflight(self._plan, exports=PHASES.index(self._last) >= PHASES.index("export"))
        self._folder.unfinish()

    def run(self) -> Outcome | None:
        plan, phases = self._plan, PHASES[: PHASES.index(self._last) + 1]
        stages = {
            "tickets": plan.tickets(),
            "probes": plan.probes(),
            "test": [plan.test()],
            "export": plan.exports(0, 0),  # whichever ticket is chosen, its exports lie in the same folders
            "latency": plan.latencies(),
        }
        self._observer.planned([stage.path for phase in phases for stage in stages[phase]])
        self.scheduler.run(stages["tickets"])
        curves = Curves.read(self._folder.root, plan)
        decisions = decide(plan, curves)
        choice = choose(plan, curves, decisions)
        stages["export"] = plan.exports(choice.replicate, choice.level)
        for phase in phases[1:]:
            if phase == "latency":
                self._measure(stages[phase])
            else:
                self.scheduler.run(stages[phase])
        if self._last != PHASES[-1]:
            return None
        stored = None if self.scheduler.changed else stored_outcome(self._folder)
        return stored or write_outcome(self._folder, plan, curves, decisions, choice)

    def _measure(self, stages: list[Stage]) -> None:
        """Latency, one target at a time, with no other worker beside it."""
        for stage in stages:
            self.scheduler.run([stage])
