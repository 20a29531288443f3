"""Which removal: the one that is asked for, or the least that meets a target by measurement.

Size, latency and speedup are searched by bisection over sparsity, on the networks before recovery: recovery changes no
shape. A latency counts by the bound of its interval that could embarrass it. Where the drop is then larger than
allowed, the sparsity is searched downwards, with recovery, for the largest that keeps within it; that one is kept, and
what the target would have cost is said. Every trial is a stage, so that a search resumes where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sparsify.counted import counted
from sparsify.pipeline.prune_plan import DENSE, PrunePlan, below
from sparsify.pipeline.prune_read import Measured, drop_of, read_size, read_speed
from sparsify.pipeline.scheduler import Scheduler
from sparsify.pipeline.stage import Stage
from sparsify.report.prune_results import TrialResult
from sparsify.stats import Interval

HIGHEST = 0.95
"""The sparsity that is tried first: what it does not reach, none reaches."""
_FINEST = 0.01
_DROP_TRIALS = 4


@dataclass(frozen=True)
class Chosen:
    """The network that is kept, and why.

    Attributes:
        network: its stage.
        trials: all that was tried, in order.
        reason: why this one.
        wanted: the trial that meets the target at too large a drop, where that is why another was kept.
    """

    network: Stage
    trials: tuple[TrialResult, ...] = field(default=())
    reason: str = "as asked"
    wanted: TrialResult | None = None


class Search:
    """The search of one run."""

    def __init__(self, plan: PrunePlan, scheduler: Scheduler, root: Path) -> None:
        self._plan, self._scheduler, self._root = plan, scheduler, root
        self._trials: list[TrialResult] = []
        self._target = plan.recipe.target

    def run(self) -> Chosen:
        """Bring dense and the chosen network to completion.

        Raises:
            SparsifyError: a stage failed.
        """
        self._scheduler.run([self._plan.dense()])
        if (sparsity := self._plan.recipe.sparsity) is not None:
            amount, reason, met = sparsity, "as asked", True
        elif self._target.macs is not None:
            amount, reason, met = 1 - self._target.macs, "as asked", True
        else:
            amount, reason, met = self._least()
        return self._within_drop(self._recovered(amount), amount, reason, met=met)

    def _least(self) -> tuple[float, str, bool]:
        """The least sparsity that meets the target, or the highest there is, and whether it meets it."""
        if not self._try(HIGHEST).met:
            return HIGHEST, f"not even sparsity {HIGHEST:g} meets the target", False
        low, high = 0.0, HIGHEST
        while high - low > _FINEST and len(self._trials) < self._target.trials:
            middle = round((low + high) / 2, 4)
            low, high = (low, middle) if self._try(middle).met else (middle, high)
        return high, f"the least sparsity found to meet the target, in {counted(len(self._trials), 'trial')}", True

    def _try(self, sparsity: float) -> TrialResult:
        """Measure one sparsity, without recovery."""
        network = self._plan.pruned(sparsity)
        self._scheduler.run([network])
        under = below(network)
        exports = self._plan.exports(network, under)[:1]
        self._scheduler.run(exports)
        folder = self._root / exports[0].path
        if self._target.size is not None:
            achieved = read_size(folder)
            met = achieved.estimate <= self._target.size
        else:
            latency = self._plan.latencies(under)[0]
            self._scheduler.run([latency])
            met, achieved = self._fast_enough(read_speed(self._root / latency.path))
        self._trials.append(TrialResult(sparsity, met, achieved))
        return self._trials[-1]

    def _fast_enough(self, measured: Measured) -> tuple[bool, Interval]:
        """By the bound that could embarrass it: of a speedup the lower, of a latency the upper."""
        if self._target.speedup is not None:
            speedup = measured.speedup
            return speedup.low is not None and speedup.low >= self._target.speedup, speedup
        latency = measured.latency_ms
        assert self._target.latency_ms is not None
        return latency.high is not None and latency.high <= self._target.latency_ms, latency

    def _recovered(self, amount: float) -> Stage:
        """The network without `amount` of its weights, or of its MACs where those are asked for, and recovered."""
        macs = None if self._target.macs is None else round(1 - amount, 6)
        pruned = self._plan.pruned(None if macs is not None else amount, macs)
        self._scheduler.run([pruned])
        recovered = self._plan.recovered(pruned)
        if recovered is not pruned:
            self._scheduler.run([recovered])
        return recovered

    def _within_drop(self, network: Stage, amount: float, reason: str, *, met: bool) -> Chosen:
        """`network`, or the largest removal below it whose drop is allowed."""
        allowed = self._target.max_drop
        drop = self._drop(network)
        if allowed is None or self._held(drop) or self._plan.recipe.removal.pattern.sparsity is not None:
            return Chosen(network, tuple(self._trials), reason)  # n:m has no less
        wanted = TrialResult(None if self._target.macs is not None else amount, met, None, drop)
        low, high, kept = 0.0, amount, None
        for _ in range(_DROP_TRIALS):
            middle = round((low + high) / 2, 4)
            found = self._recovered(middle)
            drop = self._drop(found)
            self._trials.append(TrialResult(middle, False, None, drop))
            low, high, kept = (middle, high, found) if self._held(drop) else (low, middle, kept)
        if kept is None:
            return Chosen(network, tuple(self._trials), f"{reason}; no smaller removal tried keeps within the drop")
        return Chosen(kept, tuple(self._trials), "the largest removal found within the drop", wanted)

    def _held(self, drop: Interval) -> bool:
        allowed = self._target.max_drop
        return allowed is None or (drop.high is not None and drop.high <= allowed)

    def _drop(self, network: Stage) -> Interval:
        return drop_of(self._root / DENSE, self._root / network.path)
