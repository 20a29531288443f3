import pytest

from sparsify.pipeline import observer


@pytest.mark.parametrize(
    ("note", "line"), [("", "dense: step 1 of 20\n"), ("loss 0.5", "dense: step 1 of 20, loss 0.5\n")]
)
def test_a_line_of_progress_ends_where_its_words_do(note, line, capsys, monkeypatch):
    monkeypatch.setattr(observer, "_LINE_SECONDS", 0.0)
    observer.Lines().progress("dense", 1, 20, note)
    assert capsys.readouterr().err == line


def test_the_total_is_the_whole_plan_and_a_phase_of_it_adds_nothing(capsys):
    lines = observer.Lines()
    lines.planned(["dense", "test", "export"])
    lines.planned(["dense"])
    lines.finished("dense", cached=False, seconds=1.0)
    assert capsys.readouterr().err == "[1/3] dense (1.0 s)\n"


def test_while_a_search_may_ask_for_more_the_total_says_so(capsys):
    lines = observer.Lines()
    lines.planned(["dense", "model"], more=True)
    lines.planned(["trial"])
    lines.finished("trial", cached=False, seconds=1.0)
    lines.planned((), more=False)
    lines.finished("model", cached=False, seconds=2.0)
    assert capsys.readouterr().err == "[1/3+] trial (1.0 s)\n[2/3] model (2.0 s)\n"


@pytest.mark.parametrize(("cached", "end"), [(False, ""), (True, "1 of 2 stages were complete already\n")])
def test_a_stage_that_a_search_comes_back_to_counts_as_it_was_first_found(cached, end, capsys):
    lines = observer.Lines()
    lines.planned(["dense", "trial"])
    for again in (cached, True):
        lines.finished("trial", cached=again, seconds=1.0)
    capsys.readouterr()
    lines.close()
    assert capsys.readouterr().err == end
