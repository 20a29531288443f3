"""Which removal: the one that is asked for, or the least that meets a target by measurement.

Size, latency and speedup are searched by bisection over sparsity, on the networks before recovery: recovery changes no
shape. The most that the network gives is tried first: what that does not reach, none is expected to. A latency counts
by the bound of its interval that could embarrass it, with the interval's width to spare, for the network that is kept
is timed again. Where the drop is then larger than allowed, the sparsity is searched downwards, with recovery, for the
largest that keeps within it; that one is kept, and what the target would have cost is said. Every trial is a stage, so
that a search resumes where it stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparsify.counted import counted
from sparsify.pipeline.outcome import read_json
from sparsify.pipeline.prune_plan import DENSE, HIGHEST, PrunePlan, below
from sparsify.pipeline.prune_read import Measured, drop_of, read_size, read_speed, what_counts
from sparsify.pipeline.prune_verdict import at_most, judge_time, to_spare
from sparsify.pipeline.scheduler import Scheduler
from sparsify.pipeline.stage import Stage
from sparsify.report.prune_results import TrialResult
from sparsify.report.prune_sentence import amount_told
from sparsify.stats import Interval

_FINEST = 0.01
_DROP_TRIALS = 4
_PACKING = 0.03
"""What packed weights are given to grow by in recovery, which changes their values: 1.5% was seen."""


@dataclass(frozen=True)
class Chosen:
    """The network that is kept, and why.

    Attributes:
        network: its stage.
        trials: all that was tried, in order.
        reason: why this one.
        met: whether the search measured it to meet the target; True too where nothing had to be searched for.
        wanted: the trial that meets the target at too large a drop, where that is why another was kept.
    """

    network: Stage
    trials: tuple[TrialResult, ...] = field(default=())
    reason: str = "as asked"
    met: bool = True
    wanted: TrialResult | None = None


@dataclass(frozen=True)
class _Tried:
    """One sparsity, measured without recovery."""

    network: Stage
    result: TrialResult
    sparsity: float
    to_spare: bool
    """Whether it meets the target by so much that it will again."""
    gains: bool
    """Whether it is smaller, or faster, than dense at all."""
    dense_meets: bool
    """Whether the dense network meets the target already."""
    doubt: str = ""
    """Why its time could not be told."""


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
            return self._within_drop(self._plan.pruned(sparsity), sparsity, "as asked", met=True)
        if (macs := self._target.macs) is not None:
            return self._within_drop(self._plan.pruned(None, macs), 1 - macs, "as asked", met=True)
        most = self._try(HIGHEST, or_most=True)
        if most.result.outcome != "met":
            return self._unmet(most)
        if most.dense_meets:
            low = self._try(_FINEST)
            if low.result.outcome == "met":
                reason = "the dense network meets the target already, so that next to nothing was removed"
                return self._within_drop(low.network, low.sparsity, reason, met=True)
        least = self._least(most)
        room = " with room to spare" if least.to_spare else ""  # a lesser one may have met it by a hair
        reason = f"the least sparsity found to meet the target{room}, in {counted(len(self._trials), 'trial')}"
        return self._within_drop(least.network, least.sparsity, reason, met=True)

    def _unmet(self, most: _Tried) -> Chosen:
        """Where not even the most that can go meets the target: that, recovered where it gains anything at all."""
        open_ = most.result.outcome == "inconclusive"
        word = "leaves the target open" if open_ else "does not meet the target"
        assert most.result.achieved is not None
        gives = amount_told(self._target.kind, most.result.achieved.estimate)
        reason = f"sparsity {most.sparsity:.4g}, the most there is to try, {word}: it comes to {gives}"
        if most.doubt:
            reason += f" ({most.doubt})"
        if most.gains or most.doubt:
            return self._within_drop(most.network, most.sparsity, reason, met=False)
        saved = "bytes" if self._target.size is not None else "time"
        reason += f"; it saves no {saved}, so that no recovery was spent on it"
        return Chosen(most.network, tuple(self._trials), reason, met=False)

    def _least(self, most: _Tried) -> _Tried:
        """The least sparsity that meets the target with something to spare; `most` where nothing less does."""
        low, high = 0.0, most
        while high.to_spare and high.sparsity - low > _FINEST and len(self._trials) < self._target.trials:
            tried = self._try(round((low + high.sparsity) / 2, 4))
            if tried.to_spare:
                high = tried
            else:
                low = tried.sparsity
        return high

    def _try(self, sparsity: float, *, or_most: bool = False) -> _Tried:
        """Measure one sparsity, without recovery; `or_most`: or the most the network gives, where that is less."""
        network = self._plan.pruned(sparsity, or_most=or_most)
        self._scheduler.run([network])
        if or_most:
            sparsity = min(sparsity, read_json(self._root / network.path / "prune.json").get("sparsity", 1.0))
        exports = self._plan.exports(network, below(network))[:1]
        self._scheduler.run(exports)
        tried = (self._sized if self._target.size is not None else self._timed)(network, sparsity, exports[0])
        self._trials.append(tried.result)
        return tried

    def _sized(self, network: Stage, sparsity: float, export: Stage) -> _Tried:
        assert self._target.size is not None
        folder = self._root / export.path
        found, dense = read_size(folder, self._plan.recipe), read_json(folder / "sizes.json")
        result = TrialResult(sparsity=sparsity, outcome=at_most(self._target.size, found), achieved=found)
        gains = found.estimate < dense["dense_fp32"]
        meets = dense["dense_fp32"] <= self._target.size
        packs_anew = self._plan.recipe.recovers and what_counts(self._plan.recipe) == "packed"
        most = self._target.size * (1 - _PACKING if packs_anew else 1)
        return _Tried(network, result, sparsity, found.estimate <= most, gains, meets)

    def _timed(self, network: Stage, sparsity: float, export: Stage) -> _Tried:
        found = self._measure(network)
        achieved = found.speedup if self._target.speedup is not None else found.latency_ms
        result = TrialResult(sparsity=sparsity, outcome=judge_time(self._target, found), achieved=achieved)
        gains = found.speedup.low is not None and found.speedup.low > 1
        doubt = found.unresolved if result.outcome == "inconclusive" else ""
        limit = self._target.latency_ms
        meets = limit is not None and at_most(limit, found.dense_ms) == "met"
        return _Tried(network, result, sparsity, to_spare(self._target, found), gains, meets, doubt)

    def _measure(self, network: Stage) -> Measured:
        """Time it; once again where dense came out unequal to itself, as once in twenty, and that left it open."""
        found = None
        for again in (False, True):
            latency = self._plan.latencies(below(network), again=again)[0]
            self._scheduler.run([latency])
            found = read_speed(self._root / latency.path)
            if not found.unresolved or judge_time(self._target, found) != "inconclusive":
                break
        assert found is not None
        return found

    def _recovered(self, pruned: Stage) -> Stage:
        """The network after recovery; as it is where none is asked for."""
        self._scheduler.run([pruned])
        recovered = self._plan.recovered(pruned)
        if recovered is not pruned:
            self._scheduler.run([recovered])
        return recovered

    def _within_drop(self, pruned: Stage, amount: float, reason: str, *, met: bool) -> Chosen:
        """`pruned`, recovered; or the largest removal below it whose drop is allowed.

        `amount` is what it removes: a fraction of the weights, or of the MACs where those are asked for.
        """
        network = self._recovered(pruned)
        drop, allowed = self._drop(network), self._target.max_drop
        if allowed is None or self._plan.recipe.removal.pattern.sparsity is not None:
            return Chosen(network, tuple(self._trials), reason, met)  # n:m has no less
        blind = at_most(allowed, drop_of(self._root / DENSE, self._root / DENSE)) != "met"
        taken = ("met", "inconclusive") if blind else ("met",)
        more = _blind(drop.n, allowed) if blind else _to_decide(drop, allowed)
        if (verdict := at_most(allowed, drop)) in taken:
            return Chosen(network, tuple(self._trials), reason + (more if verdict != "met" else ""), met)
        wanted = replace(self._trial(amount), outcome="met" if met else "missed", drop=drop)
        low, high, kept, undecided = 0.0, amount, None, None
        for _ in range(_DROP_TRIALS):
            middle = round((low + high) / 2, 4)
            macs = None if self._target.macs is None else round(1 - middle, 6)
            found = self._recovered(self._plan.pruned(None if macs is not None else middle, macs))
            tried = self._drop(found)
            self._trials.append(replace(self._trial(middle), drop=tried))
            told = at_most(allowed, tried)
            undecided = undecided or (found if told == "inconclusive" else None)  # the first is the largest
            low, high, kept = (middle, high, found) if told in taken else (low, middle, kept)
        if kept is not None:
            within = "not surely beyond the drop" if blind else "within the drop"
            reason = f"the largest removal found {within}{more}"
            return Chosen(kept, tuple(self._trials), reason, False, wanted)
        if undecided is not None and verdict == "missed":
            reason = "no removal tried is surely within the drop, and this is the largest that is not surely beyond it"
            return Chosen(undecided, tuple(self._trials), reason, False, wanted)
        reason = f"{reason}; no smaller removal tried keeps within the drop{more}"
        return Chosen(network, tuple(self._trials), reason, met)

    def _trial(self, amount: float) -> TrialResult:
        return TrialResult(amount) if self._target.macs is None else TrialResult(macs=round(1 - amount, 6))

    def _drop(self, network: Stage) -> Interval:
        return drop_of(self._root / DENSE, self._root / network.path)


def _to_decide(drop: Interval, allowed: float) -> str:
    """Where the drop is allowed by its estimate but not by its interval: how many examples would tell."""
    if drop.high is None or drop.estimate >= allowed or drop.high <= allowed:
        return ""
    needed = math.ceil(drop.n * ((drop.high - drop.estimate) / (allowed - drop.estimate)) ** 2)
    return f"; about {needed:,} validation examples, where there are {drop.n:,}, would tell whether the drop is allowed"


def _blind(examples: int, allowed: float) -> str:
    """That no drop as small as `allowed` can be shown on so few examples, and what could."""
    return (
        f"; {examples:,} validation examples cannot show a drop of at most {allowed:g}, not even of a network that "
        "answers as dense does: validate on more"
    )
