"""Reading flat metrics back: which levels, controls, targets and probes they hold. The inverse of `metrics.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LEVEL = re.compile(r"^level_(\d+)\.")


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
    """Names of the controls, in the order they were written."""
    return _parts(metrics, re.compile(r"^level_\d+\.control\.(.+)\.validation_accuracy\.mean$"))


def targets(metrics: Mapping[str, Any]) -> list[str]:
    """Targets that were exported to, measured or not."""
    return _parts(metrics, re.compile(r"^latency\.(.+)\.status$"))


def probes(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the probes."""
    return _parts(metrics, re.compile(r"^probe\.([^.]+)\."))


def probed(metrics: Mapping[str, Any], probe: str) -> list[str]:
    """Keys below which a probe has a verdict: one a level, `probe.perturb-rest.level_04`."""
    return _parts(metrics, re.compile(rf"^(probe\.{re.escape(probe)}\.level_\d+)\.verdict$"))


def arms(metrics: Mapping[str, Any], key: str) -> list[str]:
    """Arms of a probe at a level, in the order they were written."""
    return _parts(metrics, re.compile(rf"^{re.escape(key)}\.arm\.(.+)\.[a-z_]+\.mean$"))


def span(metrics: Mapping[str, Any], key: str) -> Span | None:
    """The interval written under `key` or `key.mean`; None where there is none."""
    estimate = metrics.get(f"{key}.mean", metrics.get(key))
    if estimate is None:
        return None
    return Span(float(estimate), metrics.get(f"{key}.ci_low"), metrics.get(f"{key}.ci_high"))


def _parts(metrics: Mapping[str, Any], pattern: re.Pattern[str]) -> list[str]:
    return list(dict.fromkeys(match[1] for name in metrics if (match := pattern.match(name))))
