"""Does a ticket survive when the rest of the network is redrawn? The rule, fixed before any data.

Measured by the IoU of the re-pruned mask with the ticket, in three arms per ticket: *kept* (ticket kept, rest redrawn),
*ceiling* (the original dense network under a new data order: what survives mere SGD noise), and *random* (a random set
of the same per-layer density kept instead).

- survives: the lower 95% bound of kept / ceiling is at least 0.8;
- fails: the upper 95% bound of kept - random is at most 0.05;
- otherwise undecided, with the tickets that would decide. Both at once is undecided too: there the ceiling lies so near
  to chance that IoU cannot tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.counted import counted
from sparsify.errors import UsageError
from sparsify.stats.bootstrap import summary_bootstrap
from sparsify.stats.interval import Interval
from sparsify.stats.values import Numbers, Vector, vector

SurvivalWord = Literal["survives", "fails", "undecided"]
MINIMUM_TICKETS = 5
PROTOCOL_TICKETS, PROTOCOL_REDRAWS = 10, 5
SURVIVES_AT, FAILS_AT = 0.8, 0.05


@dataclass(frozen=True)
class SurvivalVerdict:
    """The verdict on one level's tickets.

    Attributes:
        word: survives, fails or undecided.
        ratio: IoU(kept) / IoU(ceiling), clustered by ticket.
        difference: IoU(kept) - IoU(random), clustered by ticket.
        tickets_needed: For undecided, the tickets that would decide if the estimates and their spread held; None where
            no number would.
        reason: The verdict in words.
        caveat: How the trial falls short of the protocol, or of meaning much; empty if it does not.
    """

    word: SurvivalWord
    ratio: Interval
    difference: Interval
    tickets_needed: int | None
    reason: str
    caveat: str


def survival_verdict(
    iou_kept: Sequence[Numbers],
    iou_ceiling: Sequence[Numbers],
    iou_random: Sequence[Numbers],
    *,
    n_boot: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> SurvivalVerdict:
    """Judge K tickets.

    Args:
        iou_kept: For each ticket, the IoU of each redraw with the rest redrawn.
        iou_ceiling: For each ticket, the IoU of each retraining under a new data order.
        iou_random: For each ticket, the IoU of each redraw with a random set kept.
        n_boot: Number of resamples of tickets.
        seed: Seed of the resampling.
        level: Two-sided confidence level of both intervals.

    Raises:
        UsageError: If the arms hold different tickets, or an IoU is outside [0, 1].
    """
    if not len(iou_kept) == len(iou_ceiling) == len(iou_random):
        raise UsageError(
            f"arms: expected the same tickets in each, got {len(iou_kept)}, {len(iou_ceiling)} and {len(iou_random)}"
        )
    arms = ((iou_kept, "kept"), (iou_ceiling, "ceiling"), (iou_random, "random"))
    means = np.stack([_ticket_means(arm, name) for arm, name in arms])
    table = means.T
    ratio = summary_bootstrap(table, _ratio, n_boot=n_boot, seed=seed, level=level)
    difference = summary_bootstrap(table, _difference, n_boot=n_boot, seed=seed, level=level)
    ceiling_above_random = float(means[1].mean() - means[2].mean())
    caveat = _caveat(len(iou_kept), min(vector(redraws).size for redraws in iou_kept), ceiling_above_random)
    word, reason = _word(ratio, difference)
    needed = _tickets_needed(ratio, difference) if word == "undecided" else None
    return SurvivalVerdict(word, ratio, difference, needed, reason, caveat)


def _word(ratio: Interval, difference: Interval) -> tuple[SurvivalWord, str]:
    if ratio.n < MINIMUM_TICKETS:
        return "undecided", f"{counted(ratio.n, 'ticket')}, and the bootstrap needs {MINIMUM_TICKETS}"
    survives = ratio.low is not None and ratio.low >= SURVIVES_AT
    fails = difference.high is not None and difference.high <= FAILS_AT
    if survives and fails:
        return "undecided", "the noise ceiling lies as near to chance as the ticket does: IoU cannot tell here"
    if survives:
        return "survives", f"kept / ceiling is at least {ratio.low:.3f} (asked: {SURVIVES_AT:g})"
    if fails:
        return "fails", f"kept - random is at most {difference.high:.3f} (asked: {FAILS_AT:g})"
    return "undecided", (
        f"kept / ceiling may be as low as {ratio.low:.3f} (survives from {SURVIVES_AT:g}) "
        f"and kept - random as high as {difference.high:.3f} (fails up to {FAILS_AT:g})"
    )


def _tickets_needed(ratio: Interval, difference: Interval) -> int | None:
    """Fewest tickets at which a bound would cross its threshold, if bounds close in as 1 / sqrt(tickets).

    From n tickets with estimate e, bound b and threshold c on the far side of b: n (e - b)^2 / (e - c)^2. None when
    neither estimate lies on the deciding side of its threshold, or both do: no number of tickets is then expected to
    decide. With fewer than 2 tickets there is no spread to go by, and the answer is the minimum.
    """
    if ratio.low is None or difference.high is None:
        return MINIMUM_TICKETS
    asked = [
        (ratio.estimate - ratio.low, ratio.estimate - SURVIVES_AT),
        (difference.high - difference.estimate, FAILS_AT - difference.estimate),
    ]
    needed = [math.ceil(ratio.n * (spread / room) ** 2) for spread, room in asked if room > 0]
    return max(needed[0], MINIMUM_TICKETS) if len(needed) == 1 else None


def _caveat(tickets: int, redraws: int, ceiling_above_random: float) -> str:
    short: list[str] = []
    if tickets < PROTOCOL_TICKETS or redraws < PROTOCOL_REDRAWS:
        short.append(
            f"{counted(tickets, 'ticket')} x {counted(redraws, 'redraw')} fall short of the protocol "
            f"({PROTOCOL_TICKETS} tickets x {PROTOCOL_REDRAWS} redraws)"
        )
    if ceiling_above_random <= FAILS_AT:
        short.append(f"the ceiling itself lies within {FAILS_AT:g} of a random set, so that to fail means little")
    return "; ".join(short)


def _ticket_means(arm: Sequence[Numbers], name: str) -> Vector:
    means = np.array([vector(redraws, f"IoU of {name}").mean() for redraws in arm], dtype=np.float64)
    if means.size == 0 or means.min() < 0 or means.max() > 1:
        raise UsageError(f"IoU of {name}: expected values in [0, 1] for one ticket or more, got {means.tolist()}")
    return means


def _ratio(table: NDArray[np.float64]) -> Vector:
    """(B, K, 3) -> (B,): mean kept / mean ceiling; 0 where nothing survives under the ceiling either."""
    kept, ceiling = table[..., 0].mean(axis=1), table[..., 1].mean(axis=1)
    return np.divide(kept, ceiling, out=np.zeros_like(kept), where=ceiling > 0)


def _difference(table: NDArray[np.float64]) -> Vector:
    """(B, K, 3) -> (B,): mean kept - mean random."""
    return (table[..., 0] - table[..., 2]).mean(axis=1)
