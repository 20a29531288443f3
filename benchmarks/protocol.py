"""How every benchmark here measures: arms in turn, in random order, round by round; ratios paired within a round.

What differs between rounds (a neighbour waking up, a clock slowing down) touches all arms of a round, and cancels.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsify import machine
from sparsify.stats import Interval, paired_log_ratio

RESULTS = Path(__file__).parent / "results"

Samples = dict[str, list[float]]


def interleaved(arms: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: int, seed: int = 0) -> Samples:
    """Call every arm once a round, in an order drawn anew each round; each returns its seconds.

    The first `warm_up` rounds are run and left out.
    """
    order, samples = random.Random(seed), {name: list[float]() for name in arms}
    for turn in range(warm_up + rounds):
        for name in order.sample(list(arms), len(arms)):
            seconds = arms[name]()
            if turn >= warm_up:
                samples[name].append(seconds)
        print(f"round {turn + 1} of {warm_up + rounds}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def ratio(samples: Samples, arm: str, base: str) -> Interval:
    """Time of `arm` over time of `base`: median of the ratios within rounds, with its bootstrap interval."""
    return paired_log_ratio(samples[arm], samples[base])


def spread(seconds: Sequence[float]) -> str:
    """Median and range of one arm, for people."""
    return f"{statistics.median(seconds):8.3f} s   [{min(seconds):.3f}, {max(seconds):.3f}]   n = {len(seconds)}"


def shown(interval: Interval) -> str:
    """A ratio and its bounds, for people; one round has no bounds."""
    bounds = "one round: no interval" if interval.low is None else f"{interval.low:.3f}, {interval.high:.3f}"
    return f"{interval.estimate:7.3f}  [{bounds}]"


def environment(*distributions: str) -> dict[str, Any]:
    """Where the numbers come from: without it they mean nothing."""
    return machine.environment() | {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": machine.versions(*distributions),
    }


def write(name: str, document: Mapping[str, Any]) -> Path:
    """Write `results/NAME.json`, raw samples and all, and say where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)
    return path
