import json
import re

import pytest

from report_sample import interval, latency, results
from sparsify.report import metrics as names
from sparsify.report.metrics import build_metrics
from sparsify.report.results import ExportResult, LevelResult, RunResults
from sparsify.stats import mean_interval, paired_difference


def documented(name):
    """Whether the table in the module's docstring has a pattern for a name."""
    roots = {"run", "matching", "export", "size", "latency", "probe", "environment", "answer"}
    return name.split(".")[0] in roots or re.fullmatch(
        r"level_\d\d\.(sparsity|weights_left|matching(\.p)?|winning(\.p)?|decision|(difference|gain)(\.ci_low|\.ci_high)?"
        r"|(control\.[a-z-]+\.)?(validation_accuracy|test_accuracy|early_stop_step)\.(mean|ci_low|ci_high|values))",
        name,
    )


def test_metrics_are_flat_json_without_nothing(whole):
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    for name, value in whole.items():
        assert isinstance(value, (str, int, float, list)), name
        assert not isinstance(value, list) or all(isinstance(item, (str, int, float)) for item in value), name
        assert value != ""


def test_every_name_follows_the_documented_table(whole):
    assert [name for name in whole if not documented(name)] == []
    assert "level_NN.control.NAME.validation_accuracy" in names.__doc__


def test_intervals_are_those_of_the_replicates(whole):
    found = results()
    dense, ticket = found.levels[0].validation_accuracy, found.levels[12].validation_accuracy
    assert whole["level_12.validation_accuracy.values"] == list(ticket)
    expected = mean_interval(ticket)
    assert whole["level_12.validation_accuracy.mean"] == expected.estimate
    assert whole["level_12.validation_accuracy.ci_low"] == expected.low
    drop = paired_difference(dense, ticket)
    assert whole["export.level"] == 12
    assert whole["export.accuracy_drop"] == drop.estimate
    assert (whole["export.accuracy_drop.ci_low"], whole["export.accuracy_drop.ci_high"]) == (drop.low, drop.high)


def test_decisions_keep_their_words_and_p(whole):
    assert (whole["level_07.matching"], whole["level_07.winning"]) == ("matching", "winning")
    assert 0 <= whole["level_07.winning.p"] < 0.05
    assert whole["level_01.winning"] == "untested"
    assert "level_01.winning.p" not in whole
    assert "level_01.gain" not in whole


def test_sizes_latency_and_probe_have_the_names_that_others_read(whole):
    assert whole["size.packed_fraction"] == pytest.approx(whole["size.packed_bytes"] / whole["size.dense_fp32_bytes"])
    assert whole["latency.onnxruntime-cpu.speedup.ci_low"] == 0.97
    assert whole["latency.onnxruntime-cpu.aa.ci_high"] == 1.008
    assert whole["latency.onnxruntime-cpu.threads"] == 1
    assert whole["probe.perturb-rest.level_07.verdict"] == "undecided"
    assert whole["probe.perturb-rest.level_07.kept_over_ceiling.ci_low"] == 0.764
    assert whole["probe.perturb-rest.level_07.arm.rest-scaled-0.1.iou.mean"] == 0.81
    assert whole["environment.versions.torch"] == "2.13.0"
    assert not any("rows" in name for name in whole)


def test_one_replicate_has_values_but_no_bounds():
    found = build_metrics(results(replicates=1, levels=3))
    assert "level_01.validation_accuracy.mean" in found
    assert "level_01.validation_accuracy.ci_low" not in found
    assert "export.accuracy_drop.ci_high" not in found
    assert found["level_01.matching"] == "undecided"


def test_what_was_built_and_not_run_says_so():
    built = latency(target="tensorrt-rtx", speedup=None, aa=None, verdict="", status="built, not run: no GPU here")
    found = build_metrics(results(export=ExportResult(12, latency=(built,))))
    assert found["latency.tensorrt-rtx.status"] == "built, not run: no GPU here"
    assert "latency.tensorrt-rtx.speedup" not in found
    assert "size.packed_bytes" not in found


def test_nested_environment_is_flattened_with_its_lists():
    machine = {"gpus": [{"name": "A"}, {"name": "B"}], "instruction_sets": ["avx2"], "load": (0.1, 0.2)}
    found = build_metrics(RunResults("n", "m", "d", (), environment={"machine": machine}))
    assert found["environment.machine.gpus.1.name"] == "B"
    assert found["environment.machine.instruction_sets"] == ["avx2"]
    assert found["environment.machine.load"] == [0.1, 0.2]


def test_a_run_of_dense_alone_is_no_error():
    found = build_metrics(RunResults("n", "m", "d", (LevelResult(0, 0.0, 10, (0.5,)),)))
    assert found["answer"] == "Nothing can be said of dead weight: no level of pruning was run."


def test_best_dense_stands_beside():
    best = latency(best_dense="bf16", best_dense_p50_ms=0.03, best_dense_speedup=interval(0.72, 0.7, 0.74))
    found = build_metrics(results(export=ExportResult(12, latency=(best,))))
    assert found["latency.onnxruntime-cpu.best_dense_speedup"] == 0.72
    assert found["latency.onnxruntime-cpu.best_dense_speedup.ci_high"] == 0.74


def test_same_results_same_metrics():
    assert build_metrics(results()) == build_metrics(results())
