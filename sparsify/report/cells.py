"""Pieces that the sections of the page share: figures with their small print, verdicts, tables, lists of facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sparsify.report import read
from sparsify.report.markup import Html, element, join
from sparsify.report.words import between

_GOOD = frozenset({"matching", "matching, win not shown", "winning", "faster", "survives", "met"})
_BAD = frozenset({"slower", "fails", "missed"})
_OPEN = frozenset({"undecided", "inconclusive"})


def facts_list(facts: Sequence[tuple[str, str]]) -> Html:
    """Terms and what they are."""
    return element("dl", *[join(element("dt", term), element("dd", what)) for term, what in facts])


def word(text: str) -> Html:
    """A verdict as a coloured word; plain where it is neither good, bad nor open."""
    if not text:
        return Html("")
    kind = "good" if text in _GOOD else "bad" if text in _BAD else "open" if text in _OPEN else ""
    return element("span", text, class_=f"word {kind}".strip())


def figure(metrics: Mapping[str, Any], key: str, shown: Callable[[float], str]) -> Html:
    """An estimate with its interval in small print; empty where there is none."""
    found = read.span(metrics, key)
    if found is None:
        return Html("")
    small = between(metrics, key, lambda bound: shown(bound).rstrip("%x"), joint="–")
    return join(shown(found.estimate), element("small", small) if small else None)


def table(head: Sequence[str], rows: Sequence[Html], numeric: Sequence[int]) -> Html:
    """A table that scrolls sideways on its own; `numeric` columns are set to the right."""
    columns = [
        element("th", name, scope="col", class_="number" if i in numeric else None) for i, name in enumerate(head)
    ]
    whole = element("table", element("thead", element("tr", *columns)), element("tbody", *rows))
    return element("div", whole, class_="card", tabindex="0")


def accuracy(value: float) -> str:
    """Percent with two places."""
    return f"{100 * value:.2f}%"


def three_places(value: float) -> str:
    """An IoU or a ratio of two."""
    return f"{value:.3f}"


def told(value: Any) -> str:
    """A plain value or a list of them as text; fractions to six figures."""
    if isinstance(value, list):
        return ", ".join(told(item) for item in cast("list[Any]", value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
