"""Preparing fetches what is missing, says so on stderr as its reader can take it, and else does nothing."""

from __future__ import annotations

import io

import pytest

from sparsify.data import fashion_mnist
from sparsify.data.prepare import prepare
from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec

FASHION = DataSpec(source="fashion-mnist")


@pytest.fixture
def fetched(monkeypatch):
    """A Fashion-MNIST that is nowhere, and a download that tells its progress; what it was given is returned."""
    given = []

    def locate(progress=None):
        given.append(progress)
        for done in (1_000_000, 2_000_000) if progress else ():
            progress("one.gz", done, 2_000_000)
            progress("two.gz", done, None)

    monkeypatch.setattr(fashion_mnist, "find", lambda: None)
    monkeypatch.setattr(fashion_mnist, "locate", locate)
    return given


def test_quiet_is_quiet(fetched, capsys):
    prepare(FASHION, quiet=True)
    assert (fetched, capsys.readouterr()) == ([None], ("", ""))


def test_elsewhere_than_on_a_terminal_one_line_a_file(fetched, capsys):
    prepare(FASHION)
    assert capsys.readouterr() == ("", "downloading one.gz (2.0 MB)\ndownloading two.gz (size unknown)\n")
    assert len(fetched) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_bars_on_stderr_alone(fetched, capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    prepare(FASHION)
    assert "one.gz" in terminal.getvalue() and "2.0/2.0 MB" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_what_is_here_is_left_alone(fetched, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "find", lambda: {"here": "already"})
    prepare(FASHION)
    prepare(DataSpec(source="digits"))
    prepare(DataSpec(source="npz:anything"))
    assert fetched == []


def test_an_unknown_source_is_a_usage_error():
    with pytest.raises(UsageError, match=r"data.source: expected a dataset's name"):
        prepare(DataSpec(source="nothing"))
