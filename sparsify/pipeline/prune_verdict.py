"""Whether what was measured meets the target: one rule, for the search and for the answer. Torch-free.

A bound counts, the one that could embarrass: of a speedup the lower, of a latency and a drop the upper. Where the
interval holds the threshold nothing is known: `inconclusive`. Where the machine could not tell dense from itself the
interval is widened by as much.
"""

from __future__ import annotations

from typing import Literal

from sparsify.pipeline.prune_read import Measured
from sparsify.recipe.prune_recipe import TargetSpec
from sparsify.stats import Interval

Verdict = Literal["met", "missed", "inconclusive"]
CLOSE = 0.005
"""What a sparsity may fall short of the one asked for: layers lose whole numbers of weights, blocks or channels."""


def judge_time(target: TargetSpec, measured: Measured) -> Verdict:
    """Of a speedup or a latency."""
    if target.speedup is not None:
        return at_least(target.speedup, measured.judged("speedup"))
    assert target.latency_ms is not None
    return at_most(target.latency_ms, measured.judged("latency_ms"))


def at_least(asked: float, found: Interval) -> Verdict:
    """Met where the whole interval reaches it, missed where none of it does."""
    if found.low is None or found.high is None:
        return "inconclusive"
    return "met" if found.low >= asked else "missed" if found.high < asked else "inconclusive"


def at_most(allowed: float, found: Interval) -> Verdict:
    """Met where the whole interval keeps within, missed where none of it does."""
    if found.low is None or found.high is None:
        return "inconclusive"
    return "met" if found.high <= allowed else "missed" if found.low > allowed else "inconclusive"


def both(first: Verdict, second: Verdict) -> Verdict:
    """Of two conditions: missed beats inconclusive, which beats met."""
    return "missed" if "missed" in (first, second) else "inconclusive" if "inconclusive" in (first, second) else "met"


def to_spare(target: TargetSpec, measured: Measured) -> bool:
    """Whether the target is met with the interval's own width to spare, so that it holds when it is timed again.

    Two measurements of one network differ by more than a width once in some hundreds.
    """
    if judge_time(target, measured) != "met":
        return False
    found = measured.judged(target.kind)
    assert found.low is not None and found.high is not None
    width = found.high - found.low
    if target.speedup is not None:
        return found.low - width >= target.speedup
    assert target.latency_ms is not None
    return found.high + width <= target.latency_ms
