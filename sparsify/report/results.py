"""What a run found, as plain data: the pipeline fills it in, and everything that reports reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsify.stats import Interval, LevelDecision


@dataclass(frozen=True)
class LevelResult:
    """One level over all replicates; level 0 is dense.

    Attributes:
        level: The level.
        sparsity: Fraction of prunable weights removed, the mean over replicates.
        weights_left: Prunable weights that remain, in one replicate.
        validation_accuracy: At the end of training, one a replicate, in order.
        early_stop_step: Step of least validation loss, one a replicate; empty if not measured.
        test_accuracy: One a replicate; empty where test was not read, which is most levels.
    """

    level: int
    sparsity: float
    weights_left: int
    validation_accuracy: tuple[float, ...]
    early_stop_step: tuple[int, ...] = ()
    test_accuracy: tuple[float, ...] = ()


@dataclass(frozen=True)
class ControlResult:
    """One control at one level, over all replicates."""

    name: str
    level: int
    validation_accuracy: tuple[float, ...]
    early_stop_step: tuple[int, ...] = ()


@dataclass(frozen=True)
class SizeResult:
    """What the exported network weighs on disk, in bytes; numbers none of which is the other."""

    dense_fp32: int
    masked: int
    packed: int
    shrunk: int | None = None
    onnx: int | None = None


@dataclass(frozen=True)
class LatencyResult:
    """Dense beside sparse on one target.

    Attributes:
        target: The target's name.
        status: `measured`, or what happened instead: `built, not run: no GPU here`.
        dense_p50_ms: Median of the dense network's samples.
        sparse_p50_ms: Median of the sparse network's samples.
        sparse_p50: The same with its interval, in milliseconds.
        speedup: Dense over sparse with its interval; None if not measured.
        aa: Dense over dense with its interval, taken first; None if not measured.
        verdict: faster, slower, equivalent or inconclusive; empty if not measured.
        reason: The verdict in words.
        unresolved: Why nothing could be told apart at that moment, by dense beside itself; empty where it could.
        pairs: Interleaved pairs.
        launches: Fresh processes that they were taken in.
        best_dense: Name of the fastest dense form measured on the target, fp32 or other; empty if none other was.
        best_dense_p50_ms: Its median.
        best_dense_speedup: Best dense over sparse; None if none was measured.
        details: What explains the figure: batch, threads, precision, governor, load average, what was timed.
    """

    target: str
    status: str = "measured"
    dense_p50_ms: float | None = None
    sparse_p50_ms: float | None = None
    sparse_p50: Interval | None = None
    speedup: Interval | None = None
    aa: Interval | None = None
    verdict: str = ""
    reason: str = ""
    unresolved: str = ""
    pairs: int = 0
    launches: int = 0
    best_dense: str = ""
    best_dense_p50_ms: float | None = None
    best_dense_speedup: Interval | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        level: The level whose ticket was exported; 0 if none was fit to be.
        replicate: The replicate that the files hold.
        reason: Why this level.
        sizes: What it weighs; None if not exported.
        latency: One a target.
        parity: By target, plain figures of the comparison with eager PyTorch, such as `max_abs_error` and `tolerance`.
    """

    level: int
    replicate: int = 0
    reason: str = ""
    sizes: SizeResult | None = None
    latency: tuple[LatencyResult, ...] = ()
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


@dataclass(frozen=True)
class RunResults:
    """Everything a run found.

    Attributes:
        name: The recipe's name.
        description: The recipe's description.
        model: The model's name.
        data: The data's source.
        seed: The recipe's seed.
        levels: Every level, dense (0) among them.
        controls: Every control at every level it was run at.
        decisions: What the replicates say of each level but dense.
        margin: Non-inferiority margin that they were decided by.
        alpha: Family-wise error that they were decided by.
        pattern: The pruning pattern, such as `unstructured`.
        export: What was exported; None if the run stops before.
        probes: By name, the probe's conclusion as it wrote it: `verdict`-like scalars under `all_levels` and under
            each of `levels`, and `arms` -> figure -> interval as JSON.
        environment: What the run ran on: machine and versions, nested or not.
    """

    name: str
    model: str
    data: str
    levels: tuple[LevelResult, ...]
    description: str = ""
    seed: int = 0
    controls: tuple[ControlResult, ...] = ()
    decisions: Mapping[int, LevelDecision] = field(default_factory=dict[int, LevelDecision])
    margin: float = 0.005
    alpha: float = 0.05
    pattern: str = "unstructured"
    export: ExportResult | None = None
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
