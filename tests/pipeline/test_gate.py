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


def noisy(low, high, aa_low, aa_high):
    key = "latency.onnxruntime-cpu"
    aa = {f"{key}.aa": 1.0, f"{key}.aa.ci_low": aa_low, f"{key}.aa.ci_high": aa_high}
    return speed(low, high, "inconclusive") | aa | {f"{key}.unresolved": "stated"}


def pruned(metric="cosine", low=0.01, high=0.03, **found):
    span = {"export.drop": (low + high) / 2, "export.drop.ci_low": low, "export.drop.ci_high": high}
    return {"run.kind": "prune", "run.metric": metric} | span | found


def timed(low, high, **more):
    key = "latency.onnxruntime-cpu"
    spans = {
        f"{key}.sparse_p50_ms": (low + high) / 2,
        f"{key}.sparse_p50_ms.ci_low": low,
        f"{key}.sparse_p50_ms.ci_high": high,
    }
    return {f"{key}.status": "measured"} | spans | {f"{key}.{name}": value for name, value in more.items()}


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
        (speed(0.5, 0.7, "inconclusive"), 1.2, "inconclusive", "the latency is inconclusive: stated"),  # no A/A
        (speed(1.5, 1.7, "inconclusive"), 1.2, "inconclusive", "the latency is inconclusive: stated"),
        (noisy(1.22, 1.3, 0.93, 0.97), 1.2, "inconclusive", "the latency is inconclusive: stated"),
        (noisy(1.3, 1.4, 0.93, 0.97), 1.2, "pass", "at least 1.209"),  # 1.3 * 0.93
        (noisy(1.0, 1.1, 1.01, 1.05), 1.2, "fail", "at most 1.155"),
        (noisy(1.0, 1.1, 1.05, 1.2), 1.2, "inconclusive", "the latency is inconclusive: stated"),
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
    ("metrics", "asked", "outcome", "reason"),
    [
        (pruned(), 0.03, "pass", "at most 0.03"),
        (pruned(), 0.02, "inconclusive", "more validation examples would narrow it"),
        (pruned(), 0.009, "fail", "at least 0.01"),
        (drop(0.01, 0.005, 0.015), 0.02, "pass", "at most 0.015"),  # of tickets the metric is accuracy
        (drop(0.01, 0.005, 0.025), 0.02, "inconclusive", "more replicates would narrow it"),
    ],
)
def test_drop_is_that_of_the_runs_own_metric(metrics, asked, outcome, reason):
    (check,) = judge(metrics, GateSpec(drop=asked)).checks
    assert (check.check, check.asked, check.outcome) == ("drop", asked, outcome)
    assert reason in check.reason


def test_accuracy_that_is_not_the_metric_is_told_by_its_name():
    (check,) = judge(pruned(), GateSpec(accuracy_drop=0.9)).checks
    assert (check.outcome, check.reason) == ("inconclusive", "the run's metric is cosine: ask for gate.drop")


@pytest.mark.parametrize(
    ("metrics", "asked", "outcome", "reason"),
    [
        (timed(1.9, 2.0), 2.0, "pass", "at most 2"),
        (timed(1.9, 2.1), 2.0, "inconclusive", "more pairs would narrow it"),
        (timed(2.01, 2.1), 2.0, "fail", "at least 2.01"),
        (timed(1.0, 1.1, unresolved="too noisy here"), 2.0, "inconclusive", "too noisy here"),
        (timed(1.9, 2.0, verdict="inconclusive"), 2.0, "pass", "at most 2"),  # no gain over dense, but this fast
        ({"latency.tensorrt.status": "built, not run"}, 2.0, "inconclusive", "built, not run"),
        ({}, 2.0, "inconclusive", "no latency was measured"),
    ],
)
def test_latency_is_judged_by_the_upper_bound(metrics, asked, outcome, reason):
    (check,) = judge(metrics, GateSpec(latency_ms=asked)).checks
    assert (check.check, check.outcome) == ("latency_ms", outcome)
    assert reason in check.reason


@pytest.mark.parametrize(
    ("metrics", "outcome"),
    [
        (pruned(**{"export.macs_fraction": 0.5}), "pass"),
        (pruned(**{"export.macs_fraction": 0.51}), "fail"),
        ({}, "inconclusive"),
    ],
)
def test_macs_are_counted(metrics, outcome):
    (check,) = judge(metrics, GateSpec(macs=0.5)).checks
    assert (check.check, check.outcome) == ("macs", outcome)


@pytest.mark.parametrize(
    ("said", "outcome", "code"), [("met", "pass", 0), ("missed", "fail", 4), ("inconclusive", "inconclusive", 5)]
)
def test_the_runs_own_target_is_held_to_its_own_judgement(said, outcome, code):
    target = {"target.outcome": said, "target.kind": "speedup", "target.asked": 2.0, "target.reason": "as asked"}
    result = judge(pruned(**target), GateSpec(target="met"))
    (check,) = result.checks
    assert (check.asked, check.achieved, check.outcome, result.exit_code) == ("met", said, outcome, code)
    assert check.reason == "speedup 2 asked; as asked"


def test_a_run_of_tickets_has_no_target():
    (check,) = judge(DROPS["pass"], GateSpec(target="met")).checks
    assert (check.outcome, check.reason) == ("inconclusive", "a run of tickets has no target")


@pytest.mark.parametrize(
    ("metrics", "asked", "outcome"),
    [(SIZES, 0.31, "pass"), (SIZES, 0.3, "pass"), (SIZES, 0.29, "fail"), ({}, 0.3, "inconclusive")],
)
def test_size_is_packed_over_dense(metrics, asked, outcome):
    (check,) = judge(metrics, GateSpec(size=asked)).checks
    assert (check.outcome, check.achieved) == (outcome, 0.3 if metrics else None)


def test_the_size_of_a_prune_run_is_that_of_the_file_that_counts():
    (check,) = judge(SIZES | {"size.counted": "onnx", "size.onnx_bytes": 900}, GateSpec(size=0.5)).checks
    assert (check.outcome, check.achieved) == ("fail", 0.9)
    assert check.reason == "model.onnx takes 900 of 1,000 bytes"


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
    with pytest.raises(UsageError, match=r"got none; set one of gate\.accuracy_drop, gate\.drop, gate\.macs, gate"):
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
