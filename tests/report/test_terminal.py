import io

import pytest
from rich.console import Console

from report_sample import latency, results
from sparsify.report.metrics import build_metrics
from sparsify.report.results import ExportResult
from sparsify.report.terminal import render_terminal


def shown(metrics, width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(render_terminal(metrics, width))
    return out.getvalue()


def test_table_sizes_latency_probe_and_the_sentence_last(whole):
    text = shown(whole, 2000)
    rows = {line.split()[0]: line for line in text.splitlines() if "±" in line and "." in line}
    assert "89.22 ±0.06" in rows["dense"]
    assert "winning" in rows["7"]
    assert "12*" in rows
    assert "* exported: level 12, the sparsest matching level; replicate" in text
    assert "the best on validation; drop from dense on validation -0.29 points" in text
    assert "size: dense fp32 1.07 MB, masked 1.07 MB (100.0%), packed 95.1 kB (8.9%), shrunk 702 kB (65.9%)" in text
    assert (
        "dense 0.0421 ms, ticket 0.0418 ms; speedup of neighbouring pairs 1.000x (0.970x to 1.030x), equivalent; "
        "A/A 0.992x to 1.008x"
    ) in text
    assert "probe perturb-rest, level 7: undecided; " in text
    assert text.rstrip().endswith(whole["answer"])


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(whole, width):
    assert all(len(line) <= width for line in shown(whole, width).splitlines())


def test_the_answer_is_not_filled_up_to_the_width(whole):
    text = shown(whole, 200)
    answer = text[text.index(whole["answer"][:40]) :].splitlines()
    assert len(answer) > 1 and not any(line.endswith("  ") for line in answer)


def test_headings_are_cut_only_where_the_terminal_is_narrow(whole):
    assert "spar-" in shown(whole, 80) and "validation" not in shown(whole, 80).split("dense")[0]
    assert "sparsity" in shown(whole, 200) and "validation" in shown(whole, 200).split("dense")[0]


def test_text_is_not_read_as_rich_markup():
    found = build_metrics(results(levels=2, name="[red]x[/red]"))
    assert "[red]x[/red]: accuracy" in shown(found)


def test_one_replicate_shows_no_interval():
    text = shown(build_metrics(results(replicates=1, levels=3)))
    assert "±" not in text.split("\n", 1)[1]
    assert "undecided" in text


def test_what_was_not_run_says_so():
    built = latency(target="tensorrt-rtx", speedup=None, aa=None, verdict="", status="built, not run: no GPU here")
    text = shown(build_metrics(results(export=ExportResult(12, latency=(built,)))))
    assert "latency on tensorrt-rtx: built, not run: no GPU here" in text


def test_nothing_is_no_error():
    assert "Nothing can be said of dead weight" in shown({})
