"""What a prune run found, as plain data: the pipeline fills it in, and everything that reports reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsify.report.results import LatencyResult, SizeResult
from sparsify.stats import Interval


@dataclass(frozen=True)
class NetworkResult:
    """Dense, pruned or recovered: its metric on validation, and its work.

    Attributes:
        name: dense, pruned (before recovery) or recovered.
        metric: What `value` is.
        value: Mean over validation examples.
        macs: Multiplications of one example.
        parameters: Parameters stored, zeros included.
    """

    name: str
    metric: str
    value: Interval
    macs: int
    parameters: int


@dataclass(frozen=True)
class Layer:
    """One layer's weight before and after, and the fraction of it that is gone or zero."""

    name: str
    dense_shape: tuple[int, ...]
    shape: tuple[int, ...]
    sparsity: float


@dataclass(frozen=True)
class TrialResult:
    """One removal that was tried.

    Attributes:
        sparsity: What was asked of it; None where it was MACs.
        macs: The fraction of MACs left that was asked of it; None where it was a sparsity.
        outcome: met, missed or inconclusive; None where the target was not measured.
        achieved: What was measured of it, in the target's own unit.
        drop: Of the metric on validation, after recovery; None where the trial was not recovered.
    """

    sparsity: float | None = None
    macs: float | None = None
    outcome: str | None = None
    achieved: Interval | None = None
    drop: Interval | None = None


@dataclass(frozen=True)
class TargetResult:
    """Asked against achieved.

    Attributes:
        kind: sparsity, macs, size, latency_ms or speedup.
        asked: What was asked for.
        achieved: What the kept network has.
        max_drop: Largest drop allowed; None if not asked.
        outcome: met, missed or inconclusive.
        reason: Why this network is the one that is kept.
        wanted_sparsity: What would have met the target, at too large a drop; None where that is not so, or it was MACs.
        wanted_drop: That drop.
        wanted_met: Whether it would have met the target, but for the drop.
    """

    kind: str
    asked: float
    achieved: Interval
    max_drop: float | None
    outcome: str
    reason: str
    wanted_sparsity: float | None = None
    wanted_drop: Interval | None = None
    wanted_met: bool = False


@dataclass(frozen=True)
class PruneResults:
    """Everything a prune run found.

    Attributes:
        size_of: The one of `sizes` that a size is asked of: `onnx` or `packed`.
    """

    name: str
    model: str
    data: str
    task: str
    labelled: bool
    removal: Mapping[str, Any]
    recovery: str
    networks: tuple[NetworkResult, ...]
    drop: Interval
    test_drop: Interval
    sparsity: float
    macs_fraction: float
    parameters_fraction: float
    target: TargetResult
    sizes: SizeResult
    size_of: str
    preprocessing: str = ""
    description: str = ""
    seed: int = 0
    trials: tuple[TrialResult, ...] = ()
    layers: tuple[Layer, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    latency: tuple[LatencyResult, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
