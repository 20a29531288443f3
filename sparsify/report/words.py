"""Numbers as people read them. One place, so that the terminal, the page and the sentence agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def percent(fraction: float, digits: int = 1) -> str:
    """0.9423 -> `94.2%`. Never rounds to 100% or 0% what is not."""
    text = f"{100 * fraction:.{digits}f}"
    if (0 < fraction < 1) and float(text) in (0.0, 100.0) and digits < 4:
        return percent(fraction, digits + 1)
    return f"{text}%"


def points(difference: float, digits: int = 2) -> str:
    """Accuracy difference in points, signed: -0.0042 -> `-0.42`."""
    text = f"{100 * difference:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text


def margin_in_points(margin: float) -> str:
    """An allowed difference, without a sign: 0.005 -> `0.5 points`, 0.01 -> `1 point`."""
    figure = f"{100 * margin:g}"
    return f"{figure} point{'' if figure == '1' else 's'}"


def size(count: float) -> str:
    """Bytes in the decimal unit that fits: 1066640 -> `1.07 MB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def milliseconds(value: float) -> str:
    """Latency with three figures that mean something: 0.04213 -> `0.0421 ms`."""
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def ratio(value: float) -> str:
    """A speedup, finer near 1: 1.0123 -> `1.012x`, 2.345 -> `2.35x`."""
    return f"{value:.{3 if value < 2 else 2 if value < 100 else 0}f}x"


def between(metrics: Mapping[str, Any], key: str, shown: Callable[[float], str], joint: str = " to ") -> str:
    """`LOW to HIGH` of an interval in metrics, written by `shown`; empty where it has no bounds."""
    low, high = metrics.get(f"{key}.ci_low"), metrics.get(f"{key}.ci_high")
    return "" if low is None or high is None else f"{shown(low)}{joint}{shown(high)}"


def decision(matching: str, winning: str) -> str:
    """What was decided of a level, as one word or two: `winning`, `matching, win not shown`, `undecided`."""
    if winning == "winning":
        return winning
    return f"{matching}, win not shown" if matching == "matching" and winning == "not shown" else matching
