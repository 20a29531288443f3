"""The one sentence on dead weight that the numbers carry, and nothing they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsify.counted import counted
from sparsify.report import read
from sparsify.report.words import between, margin_in_points, percent, points, ratio
from sparsify.stats.levels import MINIMUM_REPLICATES
from sparsify_export.targets import skips_zeros


def dead_weight_sentence(metrics: Mapping[str, Any]) -> str:
    """One sentence: what could go without loss of accuracy, what that gains in bytes and in time, what a probe adds.

    Clauses whose numbers are absent are left out. Accuracy is read on validation, and decided over replicates.
    """
    if not [level for level in read.levels(metrics) if level > 0]:
        return "Nothing can be said of dead weight: no level of pruning was run."
    level, accuracy = _accuracy(metrics)
    clauses = [accuracy, _redrawn(metrics, level), _size(metrics), *speed_clauses(metrics), _probe(metrics)]
    return "; ".join(clause for clause in clauses if clause) + "."


def _accuracy(metrics: Mapping[str, Any]) -> tuple[int, str]:
    """The level the sentence is about, and what its accuracy says."""
    levels = [level for level in read.levels(metrics) if level > 0]
    margin = margin_in_points(float(metrics.get("matching.margin", 0.005)))
    replicates = counted(metrics.get("run.replicates", 1), "replicate")
    matching = [level for level in levels if metrics.get(f"level_{level:02d}.matching") == "matching"]
    if matching:
        level = max(matching)
        removed = percent(metrics[f"level_{level:02d}.sparsity"])
        return level, (
            f"{removed} of the prunable weights were dead weight in hindsight: once training has shown which they are, "
            f"the network trained without them stays within {margin} of dense on validation "
            f"({replicates}, level {level}{_passed_over(metrics, levels, level)}){_at_random(metrics, level)}"
        )
    if all(metrics.get(f"level_{level:02d}.matching") == "not shown" for level in levels):
        level = int(metrics.get("export.level") or min(levels))
        least = percent(metrics[f"level_{min(levels):02d}.sparsity"])
        return level, (
            f"No dead weight was shown: not even at {least} sparsity was a drop of {margin} or more ruled out "
            f"({replicates}){_held(metrics, level)}"
        )
    level = int(metrics.get("export.level") or max(levels))
    return level, (
        f"Whether any weights are dead weight is undecided: {replicates} ran, and a decision needs {MINIMUM_REPLICATES}"
        f"{_held(metrics, level)}"
    )


def _passed_over(metrics: Mapping[str, Any], levels: list[int], level: int) -> str:
    """Levels less sparse than `level` at which matching was not shown: chance, but not to be kept quiet."""
    quiet = [n for n in levels if n < level and metrics.get(f"level_{n:02d}.matching") != "matching"]
    return f"; not shown at level {' and '.join(map(str, quiet))}" if quiet else ""


def _at_random(metrics: Mapping[str, Any], level: int) -> str:
    """What it costs to remove as many at random: whether it mattered which."""
    key = f"level_{level:02d}"
    ticket = read.span(metrics, f"{key}.validation_accuracy")
    random = read.span(metrics, f"{key}.control.random-mask.validation_accuracy")
    if ticket is None or random is None or random.estimate >= ticket.estimate:
        return ""
    return f", where as many removed at random cost {100 * (ticket.estimate - random.estimate):.2f} points more"


def _held(metrics: Mapping[str, Any], level: int) -> str:
    """How the level's mean compares with dense: said where nothing could be decided."""
    ticket, dense = (read.span(metrics, f"level_{n:02d}.validation_accuracy") for n in (level, 0))
    if ticket is None or dense is None or level == 0:
        return ""
    gap = points(ticket.estimate - dense.estimate)
    word = (
        "equal to dense"
        if float(gap) == 0
        else f"{gap.lstrip('+-')} points {'above' if float(gap) > 0 else 'below'} dense"
    )
    return f", though at {percent(metrics[f'level_{level:02d}.sparsity'])} sparsity the mean lies {word}"


def _redrawn(metrics: Mapping[str, Any], level: int) -> str:
    """Winning tickets: at the sentence's level, or else the sparsest; silent where the control was not run."""
    won = [n for n in read.levels(metrics) if metrics.get(f"level_{n:02d}.winning") == "winning"]
    if level in won:
        return "it is a winning ticket, better than the same mask with redrawn weights"
    if won:
        best = f"level {max(won)} ({percent(metrics[f'level_{max(won):02d}.sparsity'])})"
        return f"the sparsest winning ticket, better than the same mask with redrawn weights, is {best}"
    if "not shown" in (metrics.get(f"level_{n:02d}.winning") for n in read.levels(metrics)):
        return "no ticket that matches dense was shown to beat the same mask with redrawn weights"
    return ""


def _size(metrics: Mapping[str, Any]) -> str:
    fraction, sparsity = metrics.get("size.packed_fraction"), metrics.get("export.sparsity")
    if fraction is None or sparsity is None:
        return ""
    exported = f"the exported ticket (level {metrics['export.level']}, {percent(sparsity)} sparsity)"
    return f"{exported} takes {percent(fraction)} of the dense bytes when packed on disk"


def speed_clauses(metrics: Mapping[str, Any]) -> list[str]:
    """One clause a target: faster or not, and why not."""
    said = [_speed_on(metrics, target) for target in read.targets(metrics)]
    return [clause for clause in said if clause]


def _speed_on(metrics: Mapping[str, Any], target: str) -> str:
    key = f"latency.{target}"
    speedup = metrics.get(f"{key}.speedup")
    if speedup is None:
        return f"on {target} it was {metrics.get(f'{key}.status', 'not measured')}"
    interval = between(metrics, f"{key}.speedup", ratio)
    figure = f"{ratio(speedup)}, {interval}" if interval else ratio(speedup)
    match metrics.get(f"{key}.verdict"):
        case "faster":
            return f"on {target} {_saved(metrics, target)}it runs faster than dense fp32 ({figure})"
        case "slower":
            why = _why(metrics, target, "where zeros gain no time, since")
            return f"on {target} it runs slower than dense fp32, not faster ({figure}){why}"
        case "equivalent":
            return f"on {target} it runs no faster than dense fp32 ({figure}){_why(metrics, target, 'because')}"
        case _:
            reason = metrics.get(f"{key}.reason", "too noisy to say")
            expected = _why(metrics, target, "and no gain is to be expected, since")
            return f"whether it runs faster on {target} is inconclusive ({figure}; {reason}){expected}"


def _saved(metrics: Mapping[str, Any], target: str) -> str:
    """What saved the time, where operators that skip zeros ran: zeros alone, or zeros and fewer bits."""
    ran = _ran(metrics, target)
    if not zeros_take_time(_pattern(metrics), "") or "sparse" not in ran:
        return ""
    return "its zeros and its 8-bit numbers are time saved: " if "sparse i8" in ran else "its zeros are time saved: "


def _why(metrics: Mapping[str, Any], target: str, joint: str) -> str:
    """Why zeros alone gain no time, where they do not."""
    ran = _ran(metrics, target)
    if skips_zeros(target) and ran and "sparse" not in ran:
        return f", {joint} no layer was expected to gain by skipping zeros, and none skips them"
    gains = not zeros_take_time(_pattern(metrics), target)
    return "" if gains else f", {joint} a dense kernel multiplies zeros like any other number"


def _ran(metrics: Mapping[str, Any], target: str) -> str:
    """The precisions of the weights that were timed, as `onnx_check.precision_of` has them; empty where not known."""
    return str(metrics.get(f"latency.{target}.precision.sparse", ""))


def _pattern(metrics: Mapping[str, Any]) -> str:
    return str(metrics.get("run.pattern", "unstructured"))


def zeros_take_time(pattern: str, target: str) -> bool:
    """Whether zeros of a pattern take the time of other numbers: of masks, where a runtime has no sparse kernels."""
    return pattern.partition(":")[0] in ("unstructured", "block") and not skips_zeros(target)


def _probe(metrics: Mapping[str, Any]) -> str:
    said: list[str] = []
    for probe in read.probes(metrics):
        for key in read.probed(metrics, probe):
            level = int(key.rsplit("_", 1)[1])
            match metrics[f"{key}.verdict"]:
                case "survives":
                    said.append(f"with the rest of the network redrawn the level {level} ticket survives ({probe})")
                case "fails":
                    said.append(f"with the rest of the network redrawn the level {level} ticket fails ({probe})")
                case _:
                    said.append(f"whether the level {level} ticket survives a redrawn rest is undecided ({probe})")
    return "; ".join(said)
