"""Accuracy against density as inline SVG: ticket and controls with their intervals, dense as a line across.

Series differ by shape as well as by colour, and every number drawn is in the table below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsify.report import read
from sparsify.report.markup import Html, element, join
from sparsify.report.read import Span
from sparsify.report.words import percent

WIDTH, HEIGHT = 720.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 56.0
_DENSITY_TICKS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_SHAPES = ("disc", "square", "triangle", "diamond", "cross")


@dataclass(frozen=True)
class Series:
    """One line of the chart: (density, accuracy with interval) by falling density."""

    name: str
    points: tuple[tuple[float, Span], ...]


@dataclass(frozen=True)
class Axes:
    """Where a value lies on the canvas: density falls to the right on a log scale, accuracy rises."""

    least_density: float
    low: float
    high: float

    def x(self, density: float) -> float:
        """Pixels from the left."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * math.log(density) / math.log(self.least_density)

    def y(self, accuracy: float) -> float:
        """Pixels from the top."""
        held = min(max(accuracy, self.low), self.high)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (held - self.low) / (self.high - self.low)


def accuracy_chart(metrics: Mapping[str, Any]) -> Html | None:
    """The chart with its legend; None where there is no level to draw."""
    series = _series(metrics)
    dense = read.span(metrics, "level_00.validation_accuracy")
    if not series:
        return None
    axes = _axes(series, dense)
    drawn = [_line(axes, line, i) for i, line in enumerate(series)]
    words = "Validation accuracy against the share of weights remaining, with 95% intervals"
    svg = element(
        "svg",
        element("title", words),
        _grid(axes),
        _dense(axes, dense) if dense else None,
        *reversed(drawn),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=words,
    )
    return element(
        "figure", svg, _legend([line.name for line in series], dense is not None, _bars_say(dense)), class_="chart"
    )


def _series(metrics: Mapping[str, Any]) -> list[Series]:
    kinds = [("ticket", "")] + [(name, f".control.{name}") for name in read.controls(metrics)]
    found: list[Series] = []
    for name, infix in kinds:
        points = [
            (1 - float(metrics[f"level_{level:02d}.sparsity"]), accuracy)
            for level in read.levels(metrics)
            if level > 0 and (accuracy := read.span(metrics, f"level_{level:02d}{infix}.validation_accuracy"))
        ]
        if points := [point for point in points if point[0] > 0]:
            found.append(Series(name, tuple(points)))
    return found


def _axes(series: Sequence[Series], dense: Span | None) -> Axes:
    spans = [accuracy for line in series for _, accuracy in line.points] + ([dense] if dense else [])
    low = min(span.estimate if span.low is None else span.low for span in spans)
    high = max(span.estimate if span.high is None else span.high for span in spans)
    room = max((high - low) * 0.06, 0.002)
    least = min(density for line in series for density, _ in line.points)
    return Axes(min(least / 1.12, 0.9), max(low - room, 0.0), min(high + room, 1.0) if low < 1 else 1.002)


def _grid(axes: Axes) -> Html:
    parts: list[Html] = []
    for accuracy in _accuracy_ticks(axes.low, axes.high):
        y = axes.y(accuracy)
        parts.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{100 * accuracy:g}%", x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for density in (tick for tick in _DENSITY_TICKS if tick >= axes.least_density):
        x = axes.x(density)
        parts.append(element("line", x1=x, x2=x, y1=HEIGHT - _BOTTOM, y2=HEIGHT - _BOTTOM + 5, class_="tick"))
        parts.append(element("text", f"{100 * density:g}%", x=x, y=HEIGHT - _BOTTOM + 19, text_anchor="middle"))
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(element("text", "weights remaining (log scale)", x=middle, y=HEIGHT - 6, text_anchor="middle"))
    return element("g", *parts, class_="axes")


def _accuracy_ticks(low: float, high: float) -> list[float]:
    """Four to eight round values in [low, high]."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _dense(axes: Axes, dense: Span) -> Html:
    y, right = axes.y(dense.estimate), WIDTH - _RIGHT
    band = None
    if dense.low is not None and dense.high is not None:
        top = axes.y(dense.high)
        band = element("rect", x=_LEFT, y=top, width=right - _LEFT, height=axes.y(dense.low) - top, class_="band")
    return element("g", band, element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="mean"), class_="dense")


def _line(axes: Axes, line: Series, index: int) -> Html:
    places = [(axes.x(density), axes.y(accuracy.estimate)) for density, accuracy in line.points]
    joined = element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="join")
    parts: list[Html] = []
    for (density, accuracy), (x, y) in zip(line.points, places, strict=True):
        if accuracy.low is not None and accuracy.high is not None:
            parts.append(element("line", x1=x, x2=x, y1=axes.y(accuracy.low), y2=axes.y(accuracy.high), class_="bar"))
        told = f"{line.name}, {percent(density)} of weights: {percent(accuracy.estimate, 2)}"
        parts.append(element("g", element("title", told), _marker(index, x, y)))
    return element("g", joined, *parts, class_=f"series s{index % len(_SHAPES)}")


def _marker(index: int, x: float, y: float) -> Html:
    match _SHAPES[index % len(_SHAPES)]:
        case "disc":
            return element("circle", cx=x, cy=y, r=4.2)
        case "square":
            return element("rect", x=x - 3.8, y=y - 3.8, width=7.6, height=7.6)
        case "triangle":
            return element("path", d=f"M{x:.1f} {y - 5:.1f}l4.8 8.6h-9.6z")
        case "diamond":
            return element("path", d=f"M{x:.1f} {y - 5.4:.1f}l5.4 5.4l-5.4 5.4l-5.4-5.4z")
        case _:
            return element("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8", class_="cross")


def _legend(names: Sequence[str], with_dense: bool, told: str) -> Html:
    entries = [
        _entry(element("g", _marker(i, 9.0, 9.0), class_=f"series s{i % len(_SHAPES)}"), name)
        for i, name in enumerate(names)
    ]
    if with_dense:
        mark = element("g", element("line", x1=0, x2=18, y1=9, y2=9, class_="mean"), class_="dense")
        entries.insert(0, _entry(mark, "dense"))
    return element("figcaption", *entries, element("span", told, class_="quiet"))


def _bars_say(dense: Span | None) -> str:
    bars = "no intervals: one replicate" if dense and dense.low is None else "bars and band: 95% intervals"
    return f"validation accuracy; {bars}"


def _entry(mark: Html, name: str) -> Html:
    swatch = element("svg", mark, viewBox="0 0 18 18", width=18, height=18, aria_hidden="true")
    return element("span", join(swatch, name), class_="entry")
