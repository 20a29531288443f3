from itertools import product

import pytest

from sparsify.errors import UsageError
from sparsify.pipeline.gate import judge
from sparsify.recipe.spec import GateSpec


def drop(estimate=0.0, low=None, high=None):
    found = {"export.accuracy_drop": estimate, "export.accuracy_drop.ci_low": low, "export.accuracy_drop.ci_high": high}
    return {name: value for name, value in found.items() if value is not None}


def speed(low, high, verdict="faster", target="onnxruntime-cpu"):
    key = f"latency.{target}"
    return {
        f"{key}.status": "measured",
        f"{key}.verdict": verdict,
        f"{key}.reason": "stated",
        f"{key}.speedup": (low + high) / 2,
        f"{key}.speedup.ci_low": low,
        f"{key}.speedup.ci_high": high,
    }


SIZES = {"size.packed_bytes": 300, "size.dense_fp32_bytes": 1000}


@pytest.mark.parametrize(
    ("metrics", "asked", "outcome", "reason"),
    [
        (drop(0.01, 0.005, 0.015), 0.02, "pass", "at most 0.015"),
        (drop(0.01, 0.005, 0.02), 0.02, "pass", "at most 0.02"),
        (drop(-0.01, -0.02, -0.001), 0.0, "pass", "at most -0.001"),
        (drop(0.01, 0.005, 0.021), 0.02, "inconclusive", "holds the threshold"),
        (drop(0.03, 0.02, 0.04), 0.02, "inconclusive", "holds the threshold"),
        (drop(0.03, 0.0201, 0.04), 0.02, "fail", "at least 0.0201"),
        (drop(0.5), 0.02, "inconclusive", "2 replicates or more"),
        (drop(0.0), 0.02, "inconclusive", "2 replicates or more"),
        ({}, 0.02, "inconclusive", "no ticket was exported"),
    ],
)
def test_accuracy_drop_is_judged_by_the_upper_bound(metrics, asked, outcome, reason):
    result = judge(metrics, GateSpec(accuracy_drop=asked))
    (check,) = result.checks
    assert (check.check, check.asked, check.outcome, result.outcome) == ("accuracy_drop", asked, outcome, outcome)
    assert reason in check.reason


@pytest.mark.parametrize(
    ("metrics", "asked", "outcome", "reason"),
    [
        (speed(1.3, 1.5), 1.2, "pass", "at least 1.3"),
        (speed(1.2, 1.5), 1.2, "pass", "at least 1.2"),
        (speed(0.98, 1.02, "equivalent"), 0.9, "pass", "at least 0.98"),
        (speed(1.1, 1.5), 1.2, "inconclusive", "holds the threshold"),
        (speed(1.1, 1.2), 1.2, "inconclusive", "holds the threshold"),
        (speed(1.05, 1.15), 1.2, "fail", "at most 1.15"),
        (speed(0.98, 1.02, "equivalent"), 1.2, "fail", "at most 1.02"),
        (speed(0.5, 0.7, "slower"), 1.2, "fail", "at most 0.7"),
        (speed(0.5, 0.7, "inconclusive"), 1.2, "inconclusive", "the latency is inconclusive: stated"),
        (speed(1.5, 1.7, "inconclusive"), 1.2, "inconclusive", "the latency is inconclusive: stated"),
        ({"latency.tensorrt.status": "built, not run: no GPU here"}, 1.2, "inconclusive", "built, not run"),
        ({}, 1.2, "inconclusive", "no latency was measured"),
    ],
)
def test_speedup_is_judged_by_the_lower_bound(metrics, asked, outcome, reason):
    result = judge(metrics, GateSpec(speedup=asked))
    (check,) = result.checks
    assert (check.check, check.asked, check.outcome, result.outcome) == ("speedup", asked, outcome, outcome)
    assert reason in check.reason


def test_every_target_must_hold_the_speedup():
    metrics = speed(1.3, 1.5) | speed(0.9, 1.0, "slower", "onnxruntime-cuda")
    result = judge(metrics, GateSpec(speedup=1.2))
    assert [(c.target, c.outcome) for c in result.checks] == [("onnxruntime-cpu", "pass"), ("onnxruntime-cuda", "fail")]
    assert result.outcome == "fail"


@pytest.mark.parametrize(
    ("metrics", "asked", "outcome"),
    [(SIZES, 0.31, "pass"), (SIZES, 0.3, "pass"), (SIZES, 0.29, "fail"), ({}, 0.3, "inconclusive")],
)
def test_size_is_packed_over_dense(metrics, asked, outcome):
    (check,) = judge(metrics, GateSpec(size=asked)).checks
    assert (check.outcome, check.achieved) == (outcome, 0.3 if metrics else None)


DROPS = {"pass": drop(0.0, -0.01, 0.01), "inconclusive": drop(0.0, -0.1, 0.1), "fail": drop(0.2, 0.1, 0.3)}
SPEEDS = {"pass": speed(2.0, 2.1), "inconclusive": speed(1.0, 2.1), "fail": speed(1.0, 1.1)}
WEIGHED = {"pass": {"size.packed_bytes": 1, "size.dense_fp32_bytes": 10}, "inconclusive": {}, "fail": SIZES}


@pytest.mark.parametrize("outcomes", list(product(("pass", "inconclusive", "fail"), repeat=3)), ids="-".join)
def test_failed_beats_inconclusive_beats_passed(outcomes):
    accuracy, latency, weight = outcomes
    metrics = DROPS[accuracy] | SPEEDS[latency] | WEIGHED[weight]
    result = judge(metrics, GateSpec(accuracy_drop=0.02, speedup=1.5, size=0.2))
    assert tuple(check.outcome for check in result.checks) == outcomes
    worst = max(outcomes, key=["pass", "inconclusive", "fail"].index)
    assert (result.outcome, result.exit_code) == (worst, {"pass": 0, "inconclusive": 5, "fail": 4}[worst])


def test_unset_thresholds_are_not_checked():
    result = judge(DROPS["fail"] | SIZES, GateSpec(size=0.5))
    assert [check.check for check in result.checks] == ["size"]
    assert result.exit_code == 0


def test_a_gate_that_asks_nothing_is_refused():
    with pytest.raises(UsageError, match=r"got none; set one of gate\.accuracy_drop, gate\.speedup, gate\.size"):
        judge(DROPS["pass"], GateSpec())


def test_json_names_what_was_asked_and_achieved():
    assert judge(DROPS["fail"], GateSpec(accuracy_drop=0.02)).to_json() == {
        "outcome": "fail",
        "exit_code": 4,
        "checks": [
            {
                "check": "accuracy_drop",
                "target": None,
                "asked": 0.02,
                "achieved": 0.2,
                "ci_low": 0.1,
                "ci_high": 0.3,
                "outcome": "fail",
                "reason": "the drop on validation is at least 0.1",
            }
        ],
    }
