"""What the stages of a prune run measured, read back. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UnavailableError
from sparsify.pipeline.outcome import read_json
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.stats import Interval, doubted, median_interval, paired_difference, paired_rate_difference, unresolved
from sparsify_export.targets import skips_zeros


@dataclass(frozen=True)
class Measured:
    """Speedup over dense, and the median latency, each with its interval.

    Attributes:
        speedup: Of the pruned network over dense fp32.
        latency_ms: Median of the pruned network.
        dense_ms: Median of dense.
        aa: Of dense over itself.
        unresolved: Why the machine could tell little apart at that moment, by its A/A; empty where it could.
    """

    speedup: Interval
    latency_ms: Interval
    dense_ms: Interval
    aa: Interval
    unresolved: str = ""

    def judged(self, kind: str) -> Interval:
        """`speedup` or `latency_ms` as a target is judged by it: wider by what a noisy A/A leaves open."""
        found: Interval = getattr(self, kind)
        if not self.unresolved or found.low is None or found.high is None:
            return found
        low, high = doubted(found.low, found.high, self.aa.low, self.aa.high)
        return replace(found, low=low, high=high)


def read_scores(folder: Path, name: str) -> NDArray[np.float32]:
    """The metric of every example, (N,), that a stage wrote under `name`."""
    from safetensors.numpy import load_file

    return load_file(folder / "scores.safetensors")[name]


def drop_of(dense: Path, other: Path) -> Interval:
    """Dense minus other on validation, paired example by example; above 0 the other is worse."""
    return difference(read_scores(dense, "validation"), read_scores(other, "validation"))


def difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> Interval:
    """Mean of first - second over examples: a score interval where each is right or wrong, else Student's t."""
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        return paired_rate_difference(first, second)
    return paired_difference(first, second)


def what_counts(recipe: PruneRecipe) -> Literal["onnx", "packed"]:
    """The file that a size is asked of: what the target loads, where what was removed takes no space in it.

    A dense runtime's `model.onnx` stores every zero, so that nothing but channels makes it smaller; then it is the
    packed weights in `model/`, which `sparsify.load` reads.
    """
    smaller = recipe.removal.pattern.kind == "channel" or skips_zeros(recipe.export.targets[0])
    return "onnx" if smaller else "packed"


def read_size(export: Path, recipe: PruneRecipe) -> Interval:
    """Bytes of the file that counts, of the network in an export; exact, so without an interval."""
    found = float(read_json(export / "sizes.json")[what_counts(recipe)])
    return Interval(found, found, found, 0.95, 1, "counted")


def read_speed(folder: Path) -> Measured:
    """What a latency stage measured.

    Raises:
        UnavailableError: the target cannot run here, so that no latency can be searched for.
    """
    from sparsify_export.measurement import Latency

    record = read_json(folder / "latency.json")
    if "status" in record:
        raise UnavailableError(
            f"{folder.name}: expected a target that runs here, to search for a latency, got one that does not: "
            f"{record['status']}; name another with --target"
        )
    latency = Latency.from_json(record)
    doubt = unresolved(latency.aa_interval, latency.equivalence)
    sparse, dense = median_interval(latency.sparse_ms), median_interval(latency.dense_ms)
    return Measured(latency.interval, sparse, dense, latency.aa_interval, doubt)
