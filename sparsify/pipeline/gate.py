"""The gate: a run's metrics held against the thresholds of its recipe.

A threshold is judged by the bound of the interval that could embarrass it: of an accuracy drop the upper, of a speedup
the lower. When the whole interval lies on the wrong side the check fails; when it holds the threshold, or there is no
interval, or the latency itself was inconclusive, the check is inconclusive. Failed beats inconclusive, which beats
passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sparsify.errors import UsageError
from sparsify.recipe.spec import GateSpec
from sparsify.report import read

Outcome = Literal["pass", "fail", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 4, "inconclusive": 5}


@dataclass(frozen=True)
class Check:
    """One threshold.

    Attributes:
        check: The gate's field: accuracy_drop, speedup or size.
        target: For speedup, the target that was timed; None otherwise.
        asked: The threshold.
        achieved: The estimate; None if it was not measured.
        ci_low: Lower bound; None where there is none, as for a size.
        ci_high: Upper bound.
        outcome: pass, fail or inconclusive.
        reason: The outcome in words.
    """

    check: Literal["accuracy_drop", "speedup", "size"]
    target: str | None
    asked: float
    achieved: float | None
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
        yield _accuracy_drop(metrics, gate.accuracy_drop)
    if gate.speedup is not None:
        targets = read.targets(metrics)
        for target in targets or [None]:
            yield _speedup(metrics, target, gate.speedup)
    if gate.size is not None:
        yield _size(metrics, gate.size)


def _accuracy_drop(metrics: Mapping[str, Any], asked: float) -> Check:
    found = read.span(metrics, "export.accuracy_drop")
    if found is None:
        return Check("accuracy_drop", None, asked, None, None, None, "inconclusive", "no ticket was exported")
    bounds = (found.estimate, found.low, found.high)
    if found.low is None or found.high is None:
        reason = "no interval: 2 replicates or more are needed"
        return Check("accuracy_drop", None, asked, *bounds, "inconclusive", reason)
    if found.high <= asked:
        return Check(
            "accuracy_drop", None, asked, *bounds, "pass", f"the drop on validation is at most {found.high:.4g}"
        )
    if found.low > asked:
        return Check(
            "accuracy_drop", None, asked, *bounds, "fail", f"the drop on validation is at least {found.low:.4g}"
        )
    return Check("accuracy_drop", None, asked, *bounds, "inconclusive", _straddles(found.low, found.high))


def _speedup(metrics: Mapping[str, Any], target: str | None, asked: float) -> Check:
    key = f"latency.{target}"
    found = read.span(metrics, f"{key}.speedup") if target else None
    if found is None:
        reason = metrics.get(f"{key}.status", "not measured") if target else "no latency was measured"
        return Check("speedup", target, asked, None, None, None, "inconclusive", str(reason))
    bounds = (found.estimate, found.low, found.high)
    if metrics.get(f"{key}.verdict") == "inconclusive" or found.low is None or found.high is None:
        reason = str(metrics.get(f"{key}.reason", "no interval"))
        return Check("speedup", target, asked, *bounds, "inconclusive", f"the latency is inconclusive: {reason}")
    if found.low >= asked:
        return Check("speedup", target, asked, *bounds, "pass", f"the speedup is at least {found.low:.4g}")
    if found.high < asked:
        return Check("speedup", target, asked, *bounds, "fail", f"the speedup is at most {found.high:.4g}")
    return Check("speedup", target, asked, *bounds, "inconclusive", _straddles(found.low, found.high))


def _size(metrics: Mapping[str, Any], asked: float) -> Check:
    packed, dense = metrics.get("size.packed_bytes"), metrics.get("size.dense_fp32_bytes")
    if packed is None or not dense:
        return Check("size", None, asked, None, None, None, "inconclusive", "no ticket was exported")
    achieved = packed / dense
    held = achieved <= asked
    reason = f"packed, the ticket takes {packed:,} of {dense:,} bytes"
    return Check("size", None, asked, achieved, None, None, "pass" if held else "fail", reason)


def _straddles(low: float, high: float) -> str:
    return f"the interval {low:.4g} to {high:.4g} holds the threshold: more replicates or pairs would narrow it"
