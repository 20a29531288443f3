import pytest

from sparsify.pipeline import observer


@pytest.mark.parametrize(
    ("note", "line"), [("", "dense: step 1 of 20\n"), ("loss 0.5", "dense: step 1 of 20, loss 0.5\n")]
)
def test_a_line_of_progress_ends_where_its_words_do(note, line, capsys, monkeypatch):
    monkeypatch.setattr(observer, "_LINE_SECONDS", 0.0)
    observer.Lines().progress("dense", 1, 20, note)
    assert capsys.readouterr().err == line
