"""Which levels are matching, and which hold a winning ticket: decided over replicates, never by one run.

A level is *matching* when it is non-inferior to dense by a margin fixed beforehand: one-sided paired t over replicates,
Holm over the levels tested. It is *winning* when it is matching and superior to the same mask with redrawn weights,
tested in the same way, Holm over the levels at which that control was run; elsewhere it is untested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparsify.counted import counted
from sparsify.stats.holm import HolmResult, holm
from sparsify.stats.interval import Interval
from sparsify.stats.means import non_inferior, paired_difference, superior
from sparsify.stats.values import Numbers, vector

Matching = Literal["matching", "not shown", "undecided"]
Winning = Literal["winning", "not shown", "undecided", "untested"]
MINIMUM_REPLICATES = 5


@dataclass(frozen=True)
class LevelDecision:
    """What the replicates say of one level.

    Attributes:
        level: The level.
        matching: Whether non-inferiority to dense was shown.
        winning: Whether a win over redrawn weights was shown as well.
        difference: Ticket minus dense, paired over replicates (two-sided 95% interval).
        p_matching: Adjusted p of non-inferiority; None if undecided.
        gain: Ticket minus redrawn weights; None where that control was not run.
        p_winning: Adjusted p of superiority; None if undecided or untested.
        reason: The decision in words.
    """

    level: int
    matching: Matching
    winning: Winning
    difference: Interval
    p_matching: float | None
    gain: Interval | None
    p_winning: float | None
    reason: str


def decide_levels(
    dense: Numbers,
    levels: Mapping[int, Numbers],
    redrawn: Mapping[int, Numbers],
    margin: float = 0.005,
    alpha: float = 0.05,
    *,
    resolution: float = 0.0,
) -> dict[int, LevelDecision]:
    """Decide every level.

    Args:
        dense: Accuracy of the dense network, one a replicate.
        levels: Accuracy of the ticket by level, in the same order of replicates.
        redrawn: Accuracy of the `reinit` control by level, for the levels where it was run.
        margin: Non-inferiority margin.
        alpha: Family-wise error, for matching and for winning each.
        resolution: Smallest step of an accuracy (1 / validation images); 0 for none. See `sparsify.stats.means`.

    Raises:
        UsageError: If the numbers of replicates differ.
    """
    control = vector(dense, "dense")
    tickets = {level: vector(values, f"level {level}") for level, values in levels.items()}
    redraws = {level: vector(values, f"redrawn level {level}") for level, values in redrawn.items() if level in tickets}
    enough = control.size >= MINIMUM_REPLICATES
    matching: dict[int, HolmResult] = {}
    winning: dict[int, HolmResult] = {}
    if enough:
        step = resolution
        p_matching = {k: non_inferior(v, control, margin, resolution=step) for k, v in tickets.items()}
        p_winning = {k: superior(tickets[k], v, resolution=step) for k, v in redraws.items()}
        matching, winning = holm(p_matching, alpha), holm(p_winning, alpha)
    return {
        level: _decide(
            level,
            control.size,
            margin,
            paired_difference(values, control),
            matching.get(level),
            paired_difference(values, redraws[level]) if level in redraws else None,
            winning.get(level),
        )
        for level, values in tickets.items()
    }


def _decide(
    level: int,
    n: int,
    margin: float,
    difference: Interval,
    match: HolmResult | None,
    gain: Interval | None,
    win: HolmResult | None,
) -> LevelDecision:
    if match is None:
        reason = f"undecided: {counted(n, 'replicate')}, and the test needs {MINIMUM_REPLICATES}"
        winning: Winning = "untested" if gain is None else "undecided"
        return LevelDecision(level, "undecided", winning, difference, None, gain, None, reason)
    matching: Matching = "matching" if match.reject else "not shown"
    words = (
        f"a drop of {margin:g} or more is {'ruled out' if match.reject else 'not ruled out'} (p {match.adjusted:.2g})"
    )
    if win is None:
        words += "; redrawn weights were not tested at this level"
        return LevelDecision(level, matching, "untested", difference, match.adjusted, gain, None, words)
    winning = "winning" if match.reject and win.reject else "not shown"
    words += f"; better than redrawn weights {'shown' if win.reject else 'not shown'} (p {win.adjusted:.2g})"
    return LevelDecision(level, matching, winning, difference, match.adjusted, gain, win.adjusted, words)
