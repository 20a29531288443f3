"""What the options of `sparsify prune` mean: their words as a recipe's values, and a fault by the option it came by."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from sparsify.recipe.faults import Fault
    from sparsify.recipe.pattern import Pattern
    from sparsify.recipe.prune_recipe import PruneRecipe

# field -> the option that sets it, the longer path first
_OPTIONS = {
    "trained.model": "--model",
    "trained.weights": "--weights",
    "trained.allow_import": "--allow-import",
    "data.image_size": "--image-size",
    "data.resize": "--resize",
    "data.normalize": "--normalize",
    "data": "--data",
    "task": "--task",
    "removal.pattern": "--pattern",
    "removal.criterion": "--criterion",
    "removal.allocation": "--allocation",
    "removal.shuffled": "--shuffled",
    "removal.overrides": "--layer",
    "removal.calibration": "--calibration",
    "removal.round_to": "--round-to",
    "target.sparsity": "--sparsity",
    "target.macs": "--macs",
    "target.size": "--size",
    "target.latency_ms": "--latency",
    "target.speedup": "--speedup",
    "target.max_drop": "--max-drop",
    "target": "--sparsity, --macs, --size, --latency or --speedup",
    "recovery.finetune.steps": "--recover",
    "recovery.finetune.optimizer": "--lr",
    "recovery.finetune.batch_size": "--batch-size",
    "recovery.finetune.schedule": "--schedule",
    "export.targets": "--target",
    "export.sparse": "--precision, --min-sparsity",
    "latency.batch_size": "--batch",
    "latency.threads": "--threads",
}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_OF_STAGE = re.compile(
    r"(?:(?:preflight|dense|trials/[^\s:]+): )?(?P<field>[\w.]+)(?P<rest>(?::| is for) .*)", re.DOTALL
)
_OF_FILE = re.compile(r"(?P<field>sparsity|pattern|criterion|allocation|overrides)(?P<rest>[: ].*)", re.DOTALL)
_LONGEST = 64  # letters of a name
_DEFAULT = "magnitude"  # the criterion that a name need not say


def recipe_of(tree: dict[str, Any], overrides: list[str]) -> PruneRecipe:
    """The recipe that options make; a fault is told of the option it came by. Raises `UsageError`."""
    from sparsify.pipeline.names import load_checked_prune
    from sparsify.recipe.faults import Fault

    try:
        return load_checked_prune(json.dumps(tree), "command line", overrides)
    except RecipeError as error:
        faults = [fault for fault in error.faults if isinstance(fault, Fault)]
        raise UsageError("\n".join(map(_told, faults))) from error


def _told(fault: Fault) -> str:
    told = f"{_option(fault)}: expected {fault.expected}, got {fault.got}; {fault.mend}"
    if fault.path != "target" or fault.place.line is None:
        return told
    for field in ("sparsity", "macs", "size", "latency_ms", "speedup"):  # which of them: each by its option
        option = _OPTIONS[f"target.{field}"]
        told = re.sub(rf"(?<![-\w]){field}\b:?", option, told)
    return told


def _option(fault: Fault) -> str:
    """What a person typed for the field at fault: an option, or a `--set`."""
    if fault.place.line is None:  # an override is its own place
        return f"{fault.place}: {fault.path}"
    return next((option for path, option in _OPTIONS.items() if fault.path.startswith(path)), fault.path)


def by_option(error: UsageError, recipe: PruneRecipe) -> UsageError:
    """What a stage refuses, told of the option it came by; any other refusal as it is."""
    said = _OF_STAGE.fullmatch(str(error))
    if said is None:
        return error
    field = said["field"]
    paths = [path for path in (f"removal.{field}", f"target.{field}", field) if path in _OPTIONS]
    if not paths or (paths[0] == f"target.{field}" and getattr(recipe.target, field) is None):
        return error
    option = _OPTIONS[paths[0]]
    return UsageError(f"{option}{said['rest']}".replace(paths[0], option))


@contextmanager
def told_by_option() -> Generator[None]:
    """What cannot be done to a file alone is told of the option that asked for it; any other refusal as it is."""
    try:
        yield
    except UsageError as error:
        said = _OF_FILE.fullmatch(str(error))
        if said is None:
            raise
        option = {"overrides": "--layer"}.get(said["field"], f"--{said['field']}")
        raise UsageError(f"{option}{said['rest']}") from error


def run_name(
    model: str | None, pattern: str, target: Mapping[str, Any], *, criterion: str = _DEFAULT, shuffled: bool = False
) -> str:
    """A run's name from what it prunes, how and to what: letters, digits and dashes; a long model's name is cut.

    So that another target, pattern or criterion, or its choice shuffled, is another run folder.
    """
    by = ([criterion] if criterion != _DEFAULT else []) + ["shuffled"] * shuffled
    asked = [f"{kind.removesuffix('_ms')}-{value:g}" for kind, value in target.items() if value is not None]
    how = _word("-".join([pattern, *by, *asked]))
    return f"{_word(Path(model or 'model').name)[: _LONGEST - 1 - len(how)]}-{how}".strip("-._")[:_LONGEST]


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")


def pattern_for(pattern: str | None, target: Mapping[str, Any], runtime: str) -> str:
    """The pattern as given; else what can meet the target: fewer channels where work or time is to be saved.

    A runtime with sparse kernels saves time by zeros too.
    """
    from sparsify_export.targets import skips_zeros

    if pattern is not None:
        return pattern
    timed = any(target[kind] is not None for kind in ("latency_ms", "speedup")) and not skips_zeros(runtime)
    return "channel" if timed or target["macs"] is not None else "unstructured"


def round_to_for(round_to: int | None, pattern: str, target: Mapping[str, Any]) -> dict[str, int]:
    """`removal.round_to` as given; else, where time is asked for, what the runtime computes at a time on this machine.

    Odd widths save less time than multiplications, or none.
    """
    from sparsify.machine import vector_width

    if round_to is not None:
        return {"round_to": round_to}
    timed = any(target[kind] is not None for kind in ("latency_ms", "speedup"))
    return {"round_to": vector_width()} if timed and pattern == "channel" else {}


def mask_pattern(text: str | None) -> Pattern:
    """The pattern that zeros are to have in a file whose shapes stay; unstructured where none is given."""
    from sparsify.recipe.pattern import Pattern

    try:
        return Pattern.parse(text or "unstructured")
    except ValueError as error:
        raise UsageError(f"--pattern: {error}") from None


def sparse(precision: str | None, min_sparsity: str | None) -> dict[str, Any] | None:
    """`export.sparse`, or None where neither option is given."""
    from sparsify_export.sparse.options import read_options

    options = read_options(precision, min_sparsity)
    return None if options is None else options.model_dump()


def asked(option: str, value: str | None) -> str:
    """The value of an option that cannot be left out."""
    if not value:
        raise UsageError(
            f"{option}: expected one, got none; give --model, --weights and --data, or a recipe, or --onnx FILE or "
            "--file FILE"
        )
    return value


def layers(texts: list[str]) -> dict[str, float]:
    """`GLOB=SPARSITY` each."""
    found: dict[str, float] = {}
    for text in texts:
        glob, equals, share = text.rpartition("=")
        if not equals or not glob:
            raise UsageError(f"--layer: expected GLOB=SPARSITY such as 'features.0*=0', got {text!r}")
        found[glob] = _share("--layer", share)
    return found


def data(source: str, image_size: int | None, resize: int | None, normalize: str | None) -> dict[str, Any]:
    """`data`, with what is said of pictures; what is not stays open, for the network's source to fill in."""
    said = {"image_size": image_size, "resize": resize, "normalize": normalize and _moments(normalize)}
    return {"source": source} | {name: value for name, value in said.items() if value is not None}


def _moments(text: str) -> str | dict[str, Any]:
    """A word as it is; `0.5,0.5,0.5/0.5,0.5,0.5` as mean and std."""
    mean, slash, std = text.partition("/")
    if not slash:
        if any(letter in text for letter in "0123456789,"):  # no word, so that only the slash can be missing
            raise UsageError(f"--normalize: expected a word or MEAN/STD such as 0.5,0.5,0.5/0.2,0.2,0.2, got {text!r}")
        return text
    return {
        name: [number("--normalize", value, "") for value in values.split(",")]
        for name, values in (("mean", mean), ("std", std))
    }


def fraction(option: str, text: str | None) -> float | None:
    """A share, as 0.5 or 50%; None where it was not given."""
    return None if text is None else _share(option, text)


def difference(option: str, text: str | None) -> float | None:
    """A difference of a metric, as 0.01 or 1%, which may be above 1; None where it was not given."""
    return None if text is None else _number_or_percentage(option, text)


def _share(option: str, text: str) -> float:
    share = _number_or_percentage(option, text)
    if share > 1 and not text.strip().endswith("%"):
        raise UsageError(
            f"{option}: expected a fraction such as 0.5, got {text!r}; if it is a percentage write {share:g}%"
        )
    return share


def _number_or_percentage(option: str, text: str) -> float:
    if not text.strip().endswith("%"):
        return number(option, text, "")
    return round(number(option, text, "%") / 100, 12)  # as it would be written


def number(option: str, text: str, unit: str) -> float:
    """A finite number with or without its unit."""
    try:
        value = float(text.strip().lower().removesuffix(unit))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        example = {"ms": "5ms", "x": "2x", "%": "50%"}.get(unit, "0.5")
        raise UsageError(f"{option}: expected a number such as {example}, got {text!r}")
    return value


def size_in_bytes(text: str) -> int:
    """Bytes of 2MB, 500kB or 1.5MiB."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _BYTES:
        raise UsageError(f"--size: expected bytes such as 2MB, 500kB or 1.5MiB, got {text!r}")
    return round(number("--size", match[1], "") * _BYTES[match[2].lower()])
