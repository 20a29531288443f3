"""The gate: a run's metrics held against the thresholds of its recipe.

A threshold is judged by the bound of the interval that could embarrass it: of a drop and a latency the upper, of a
speedup the lower. When the whole interval lies on the wrong side the check fails; when it holds the threshold, or
there is no interval, the check is inconclusive. Where dense timed beside itself came out unequal, the interval is
widened by as much. Failed beats inconclusive, which beats passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sparsify.errors import UsageError
from sparsify.recipe.spec import GateSpec
from sparsify.report import read
from sparsify.stats import doubted

Outcome = Literal["pass", "fail", "inconclusive"]
_TOO_FEW = "no interval: 2 replicates or more are needed"
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 4, "inconclusive": 5}


@dataclass(frozen=True)
class Check:
    """One threshold.

    Attributes:
        check: The gate's field.
        target: For speedup and latency_ms, the target that was timed; None otherwise.
        asked: The threshold; of `target` the word.
        achieved: The estimate, of `target` the run's own outcome; None if it was not measured.
        ci_low: Lower bound; None where there is none, as for a size.
        ci_high: Upper bound.
        outcome: pass, fail or inconclusive.
        reason: The outcome in words.
    """

    check: str
    target: str | None
    asked: float | str
    achieved: float | str | None
    ci_low: float | None
    ci_high: float | None
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class GateResult:
    """All checks, and what they come to."""

    outcome: Outcome
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 passed, 4 failed, 5 inconclusive."""
        return EXIT_CODES[self.outcome]

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        checks = [asdict(check) for check in self.checks]
        return {"outcome": self.outcome, "exit_code": self.exit_code, "checks": checks}


def judge(metrics: Mapping[str, Any], gate: GateSpec) -> GateResult:
    """Hold metrics against a gate.

    Args:
        metrics: The flat mapping of `metrics.json`.
        gate: The thresholds; those that are None are not checked.

    Raises:
        UsageError: If no threshold is set, for then a pass would mean nothing.
    """
    checks = tuple(_checks(metrics, gate))
    if not checks:
        fields = ", ".join(f"gate.{name}" for name in GateSpec.model_fields)
        raise UsageError(
            f"gate: expected at least one threshold, got none; set one of {fields} in the recipe or by --set"
        )
    outcomes: set[Outcome] = {check.outcome for check in checks}
    worst: Outcome = "fail" if "fail" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"
    return GateResult(worst, checks)


def _checks(metrics: Mapping[str, Any], gate: GateSpec) -> Iterator[Check]:
    if gate.accuracy_drop is not None:
        yield _drop(metrics, "accuracy_drop", gate.accuracy_drop)
    if gate.drop is not None:
        yield _drop(metrics, "drop", gate.drop)
    if gate.macs is not None:
        yield _macs(metrics, gate.macs)
    for target in read.targets(metrics) or [None]:
        if gate.speedup is not None:
            yield _speedup(metrics, target, gate.speedup)
        if gate.latency_ms is not None:
            yield _latency(metrics, target, gate.latency_ms)
    if gate.size is not None:
        yield _size(metrics, gate.size)
    if gate.target is not None:
        yield _target(metrics, gate.target)


def _drop(metrics: Mapping[str, Any], check: str, asked: float) -> Check:
    """Of the run's own metric or of accuracy, which are one in a run of tickets."""
    name = check if _is_prune(metrics) else "accuracy_drop"
    found = read.span(metrics, f"export.{name}")
    if found is None:
        metric = metrics.get("run.metric")
        reason = f"the run's metric is {metric}: ask for gate.drop" if _is_prune(metrics) else "no ticket was exported"
        return _unknown(check, asked, reason)
    more = "validation examples" if _is_prune(metrics) else "replicates"
    if found.low is None or found.high is None:
        reason = "no interval: 2 examples or more are needed" if _is_prune(metrics) else _TOO_FEW
        return Check(check, None, asked, found.estimate, found.low, found.high, "inconclusive", reason)
    return _at_most(check, None, asked, found, "the drop on validation", more)


def _macs(metrics: Mapping[str, Any], asked: float) -> Check:
    achieved = metrics.get("export.macs_fraction")
    if achieved is None:
        return _unknown("macs", asked, "a run of tickets, which removes no work, counts none")
    outcome: Outcome = "pass" if achieved <= asked else "fail"
    return Check(
        "macs", None, asked, achieved, None, None, outcome, "counted: the share of the dense ones that is left"
    )


def _speedup(metrics: Mapping[str, Any], target: str | None, asked: float) -> Check:
    key = f"latency.{target}"
    found = read.span(metrics, f"{key}.speedup") if target else None
    if found is None:
        return _not_timed(metrics, "speedup", target, asked)
    bounds = (found.estimate, found.low, found.high)
    inconclusive = metrics.get(f"{key}.verdict") == "inconclusive"  # as the metrics of earlier versions say it
    found, doubt = _doubted(metrics, key, found, str(metrics.get(f"{key}.reason", "")) if inconclusive else "")
    if found.low is None or found.high is None:
        return Check("speedup", target, asked, *bounds, "inconclusive", f"the latency is inconclusive: {doubt}")
    if found.low >= asked:
        return Check("speedup", target, asked, *bounds, "pass", f"the speedup is at least {found.low:.4g}")
    if found.high < asked:
        return Check("speedup", target, asked, *bounds, "fail", f"the speedup is at most {found.high:.4g}")
    reason = f"the latency is inconclusive: {doubt}" if doubt else _straddles(found.low, found.high, "pairs")
    return Check("speedup", target, asked, *bounds, "inconclusive", reason)


def _latency(metrics: Mapping[str, Any], target: str | None, asked: float) -> Check:
    """Of the pruned network alone."""
    key = f"latency.{target}"
    found = read.span(metrics, f"{key}.sparse_p50_ms") if target else None
    if found is None:
        return _not_timed(metrics, "latency_ms", target, asked)
    found, doubt = _doubted(metrics, key, found)
    if found.low is None or found.high is None or (doubt and found.low <= asked < found.high):
        told = f"the latency is inconclusive: {doubt or 'no interval'}"
        return Check("latency_ms", target, asked, found.estimate, found.low, found.high, "inconclusive", told)
    return _at_most("latency_ms", target, asked, found, "the median", "pairs")


def _doubted(metrics: Mapping[str, Any], key: str, found: read.Span, otherwise: str = "") -> tuple[read.Span, str]:
    """The bounds, wider by what dense beside itself left open, and why they are; as they are where it left nothing."""
    doubt = str(metrics.get(f"{key}.unresolved", otherwise))
    if not doubt or found.low is None or found.high is None:
        return found, doubt
    aa = read.span(metrics, f"{key}.aa") or read.Span(1.0, None, None)
    low, high = doubted(found.low, found.high, aa.low, aa.high)
    return read.Span(found.estimate, low, high), doubt


def _size(metrics: Mapping[str, Any], asked: float) -> Check:
    kind = metrics.get("size.counted", "packed")
    counted, dense = metrics.get(f"size.{kind}_bytes"), metrics.get("size.dense_fp32_bytes")
    if counted is None or not dense:
        return _unknown("size", asked, "nothing was exported")
    achieved = counted / dense
    held = achieved <= asked
    name = "model.onnx" if kind == "onnx" else "packed, the network"
    reason = f"{name} takes {counted:,} of {dense:,} bytes"
    return Check("size", None, asked, achieved, None, None, "pass" if held else "fail", reason)


def _target(metrics: Mapping[str, Any], asked: str) -> Check:
    """What the run itself said of what it was asked for."""
    outcome = metrics.get("target.outcome")
    if outcome is None:
        return _unknown("target", asked, "a run of tickets has no target")
    words: dict[str, Outcome] = {"met": "pass", "missed": "fail"}
    reason = f"{metrics['target.kind']} {metrics['target.asked']:g} asked; {metrics['target.reason']}"
    return Check("target", None, asked, outcome, None, None, words.get(outcome, "inconclusive"), reason)


def _at_most(check: str, target: str | None, asked: float, found: read.Span, what: str, more: str) -> Check:
    assert found.low is not None and found.high is not None
    outcome: Outcome = "pass" if found.high <= asked else "fail" if found.low > asked else "inconclusive"
    reason = {
        "pass": f"{what} is at most {found.high:.4g}",
        "fail": f"{what} is at least {found.low:.4g}",
        "inconclusive": _straddles(found.low, found.high, more),
    }[outcome]
    return Check(check, target, asked, found.estimate, found.low, found.high, outcome, reason)


def _not_timed(metrics: Mapping[str, Any], check: str, target: str | None, asked: float) -> Check:
    reason = metrics.get(f"latency.{target}.status", "not measured") if target else "no latency was measured"
    return _unknown(check, asked, str(reason), target)


def _unknown(check: str, asked: float | str, reason: str, target: str | None = None) -> Check:
    return Check(check, target, asked, None, None, None, "inconclusive", reason)


def _is_prune(metrics: Mapping[str, Any]) -> bool:
    return metrics.get("run.kind") == "prune"


def _straddles(low: float, high: float, more: str) -> str:
    return f"the interval {low:.4g} to {high:.4g} holds the threshold: more {more} would narrow it"
