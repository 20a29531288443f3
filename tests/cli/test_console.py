import sys

import pytest

from sparsify.cli.console import WIDTH_OF_A_FILE, console


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "file"])
def test_a_terminal_has_its_own_width_and_a_file_a_wide_one(name, watched, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    other = {"stdout": "stderr", "stderr": "stdout"}[name]
    monkeypatch.setattr(getattr(sys, name), "isatty", lambda: watched)
    monkeypatch.setattr(getattr(sys, other), "isatty", lambda: not watched)
    assert console(stderr=name == "stderr").width == (70 if watched else WIDTH_OF_A_FILE)


def test_a_long_line_reaches_a_file_whole_and_its_brackets_too(capsys):
    line = f"[bold]{'word ' * 30}"
    console().print(line)
    assert capsys.readouterr().out.rstrip("\n") == line
