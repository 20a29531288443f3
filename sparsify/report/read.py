"""Reading flat metrics back: which levels, controls, targets and probes they hold. The inverse of `metrics.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LEVEL = re.compile(r"^level_(\d+)\.")
# The order of reading, which a file of sorted names does not keep; what is not named here comes after, sorted.
_CONTROLS = ("reinit", "shuffled-mask", "random-mask", "one-shot")
_ARMS = ("ticket-alone", "original", "ceiling", "rest-redrawn", "rest-scaled", "random-kept", "values-shuffled")


@dataclass(frozen=True)
class Span:
    """An estimate with its bounds, or without them."""

    estimate: float
    low: float | None
    high: float | None


def levels(metrics: Mapping[str, Any]) -> list[int]:
    """Levels with a validation accuracy, dense (0) first."""
    found = {int(match[1]) for name in metrics if (match := _LEVEL.match(name))}
    return sorted(level for level in found if f"level_{level:02d}.validation_accuracy.mean" in metrics)


def controls(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the controls, nearest to the ticket first."""
    return _ranked(_parts(metrics, re.compile(r"^level_\d+\.control\.(.+)\.validation_accuracy\.mean$")), _CONTROLS)


def targets(metrics: Mapping[str, Any]) -> list[str]:
    """Targets that were exported to, measured or not."""
    return sorted(_parts(metrics, re.compile(r"^latency\.(.+)\.status$")))


def probes(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the probes."""
    return sorted(_parts(metrics, re.compile(r"^probe\.([^.]+)\.")))


def probed(metrics: Mapping[str, Any], probe: str) -> list[str]:
    """Keys below which a probe has a verdict: one a level, `probe.perturb-rest.level_04`."""
    return sorted(_parts(metrics, re.compile(rf"^(probe\.{re.escape(probe)}\.level_\d+)\.verdict$")))


def arms(metrics: Mapping[str, Any], key: str) -> list[str]:
    """Arms of a probe at a level, the references first and the controls last."""
    return _ranked(_parts(metrics, re.compile(rf"^{re.escape(key)}\.arm\.(.+)\.[a-z_]+\.mean$")), _ARMS)


def span(metrics: Mapping[str, Any], key: str) -> Span | None:
    """The interval written under `key` or `key.mean`; None where there is none."""
    estimate = metrics.get(f"{key}.mean", metrics.get(key))
    if estimate is None:
        return None
    return Span(float(estimate), metrics.get(f"{key}.ci_low"), metrics.get(f"{key}.ci_high"))


def _ranked(names: list[str], order: Sequence[str]) -> list[str]:
    """By the first of `order` that a name begins with, then by a number at its end, then by name."""

    def rank(name: str) -> tuple[int, float, str]:
        place = next((i for i, first in enumerate(order) if name.startswith(first)), len(order))
        number = re.search(r"-(\d[\d.]*(?:e[+-]?\d+)?)$", name)
        return place, float(number[1]) if number else -1.0, name

    return sorted(names, key=rank)


def _parts(metrics: Mapping[str, Any], pattern: re.Pattern[str]) -> list[str]:
    return list(dict.fromkeys(match[1] for name in metrics if (match := pattern.match(name))))
