from dataclasses import replace

import pytest

from report_sample import conclusion, latency, results
from sparsify.report.metrics import build_metrics
from sparsify.report.results import ExportResult
from sparsify.report.sentence import dead_weight_sentence

ZEROS = "a dense kernel multiplies zeros like any other number"


def sentence(**changes):
    return build_metrics(results(**changes))["answer"]


def timed(*latencies):
    return sentence(export=replace(results().export, latency=latencies))


def test_it_is_one_sentence(whole):
    answer = whole["answer"]
    assert answer.endswith(".")
    assert ". " not in answer.replace("vs. ", "")
    assert answer == dead_weight_sentence(whole)


def test_a_matching_ticket_that_is_no_faster_says_so_and_why(whole):
    assert "93.1% of the prunable weights were dead weight in hindsight" in whole["answer"]
    assert "within 0.5 points of dense on validation (5 replicates, level 12)" in whole["answer"]
    assert f"runs no faster than dense fp32 (1.000x, 0.970x to 1.030x), because {ZEROS}" in whole["answer"]


def test_under_five_replicates_it_is_undecided():
    answer = sentence(replicates=2)
    assert answer.startswith(
        "Whether any weights are dead weight is undecided: 2 replicates ran, and a decision needs 5"
    )
    assert "were dead weight" not in answer


def test_one_replicate_is_one_replicate():
    assert "1 replicate ran" in sentence(replicates=1, levels=3)


def test_no_matching_level_is_no_dead_weight():
    answer = sentence(fall=1, winning=False)
    assert answer.startswith(
        "No dead weight was shown: not even at 20.0% sparsity was a drop of 0.5 points or more ruled out"
    )
    assert "points below dense" in answer


@pytest.mark.parametrize(
    ("verdict", "low", "high", "says"),
    [
        ("faster", 1.2, 1.4, "on onnxruntime-cpu it runs faster than dense fp32 (1.300x, 1.200x to 1.400x)"),
        (
            "slower",
            0.7,
            0.9,
            "it runs slower than dense fp32, not faster (0.800x, 0.700x to 0.900x), where zeros gain no time",
        ),
        ("equivalent", 0.97, 1.03, f"it runs no faster than dense fp32 (1.000x, 0.970x to 1.030x), because {ZEROS}"),
        ("inconclusive", 0.8, 1.4, f"and no gain is to be expected, since {ZEROS}"),
    ],
)
def test_each_verdict_on_speed(verdict, low, high, says):
    assert says in timed(latency(verdict, low, high))


def test_faster_never_talks_of_zeros():
    assert ZEROS not in timed(latency("faster", 1.2, 1.4))


def test_sparse_kernels_are_not_explained_by_dense_ones():
    assert ZEROS not in timed(latency("slower", 0.7, 0.9, target="sparse-cpu"))
    assert ZEROS not in sentence(pattern="2:4")


@pytest.mark.parametrize(
    ("target", "pattern", "ran", "says"),
    [
        ("sparse-cpu", "unstructured", "sparse f32", "its zeros are time saved: "),
        ("sparse-cpu", "block:1x4", "float32+sparse f32", "its zeros are time saved: "),
        ("sparse-cpu", "unstructured", "float32+sparse i8", "its zeros and its 8-bit numbers are time saved: "),
        ("sparse-cpu", "unstructured", "float32", ""),
        ("sparse-cpu", "channel", "sparse f32", ""),
        ("onnxruntime-cpu", "unstructured", "float32", ""),
    ],
)
def test_zeros_are_time_saved_where_operators_skipped_them_and_it_was_faster(target, pattern, ran, says):
    def spoken(verdict, low, high):
        timings = latency(verdict, low, high, target=target, details={"precision": {"dense": "float32", "sparse": ran}})
        return sentence(pattern=pattern, export=replace(results().export, latency=(timings,)))

    faster = spoken("faster", 1.2, 1.4)
    assert f"on {target} {says}it runs faster than dense fp32 (1.300x, 1.200x to 1.400x)" in faster
    for verdict, low, high in (("slower", 0.7, 0.9), ("equivalent", 0.97, 1.03), ("inconclusive", 0.8, 1.4)):
        assert "time saved" not in spoken(verdict, low, high)


def test_where_no_layer_skips_zeros_that_is_why():
    dense = latency(target="sparse-cpu", details={"precision": {"dense": "float32", "sparse": "float32"}})
    assert "(1.000x, 0.970x to 1.030x), because no layer was expected to gain by skipping zeros" in timed(dense)


def test_inconclusive_gives_its_reason():
    assert "too noisy here" in timed(latency("inconclusive", 0.8, 1.4, reason="too noisy here"))


def test_built_and_not_run_is_said():
    built = latency(target="tensorrt", speedup=None, aa=None, verdict="", status="built, not run: no GPU here")
    assert "on tensorrt it was built, not run: no GPU here" in timed(latency(), built)


def test_winning_is_said_where_it_was_shown():
    assert "it is a winning ticket" in sentence(levels=7)
    assert (
        "the sparsest winning ticket, better than the same mask with redrawn weights, is level 11 (91.4%)" in sentence()
    )
    not_shown = "no ticket that matches dense was shown to beat the same mask with redrawn weights"
    assert not_shown in sentence(winning=False)
    assert "redrawn weights" not in sentence(levels=5)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ("survives", "with the rest of the network redrawn the level 7 ticket survives (perturb-rest)"),
        ("fails", "with the rest of the network redrawn the level 7 ticket fails (perturb-rest)"),
        ("undecided", "whether the level 7 ticket survives a redrawn rest is undecided (perturb-rest)"),
    ],
)
def test_each_verdict_of_the_probe(verdict, says):
    assert says in sentence(probes={"perturb-rest": conclusion(verdict)})


def test_what_was_not_measured_is_not_mentioned():
    answer = sentence(export=None, probes={})
    assert answer.startswith("93.1% of the prunable weights")
    for absent in ("disk", "fp32", "rest", "exported"):
        assert absent not in answer


def test_the_size_is_that_of_the_exported_level():
    answer = sentence(export=replace(results().export, level=3))
    assert "the exported ticket (level 3, 48.8% sparsity) takes 8.9% of the dense bytes" in answer
    assert answer.startswith("93.1%")


def test_an_export_of_nothing_has_no_size():
    assert "disk" not in sentence(export=ExportResult(12))
