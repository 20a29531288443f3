"""`sparsify prune`: a network somebody trained, smaller; its accuracy, size and speed measured."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsify.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from sparsify.pipeline.outcome import Outcome
    from sparsify.recipe.faults import Fault
    from sparsify.recipe.prune_recipe import PruneRecipe

_FOR_RECIPE = frozenset({"recipe", "overrides", "run_dir", "as_json"})
_FOR_ONNX = frozenset(
    {"onnx", "out", "pattern", "sparsity", "criterion", "allocation", "layer", "data", "seed", "as_json"}
)
# field -> the option that sets it, the longer path first
_OPTIONS = {
    "trained.model": "--model",
    "trained.weights": "--weights",
    "trained.allow_import": "--allow-import",
    "data": "--data",
    "task": "--task",
    "removal.pattern": "--pattern",
    "removal.criterion": "--criterion",
    "removal.allocation": "--allocation",
    "removal.shuffled": "--shuffled",
    "removal.overrides": "--layer",
    "removal.calibration": "--calibration",
    "target.sparsity": "--sparsity",
    "target.macs": "--macs",
    "target.size": "--size",
    "target.latency_ms": "--latency",
    "target.speedup": "--speedup",
    "target.max_drop": "--max-drop",
    "target": "--sparsity, --macs, --size, --latency or --speedup",
    "recovery.finetune.steps": "--recover",
    "export.targets": "--target",
    "latency.batch_size": "--batch",
    "latency.threads": "--threads",
}
EXIT_CODES = {"met": 0, "missed": 4, "inconclusive": 5}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def command(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe of kind prune; or give the options below.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model's name or source (`sparsify ls models`): timm:NAME, transformers:PATH."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Its trained weights: .safetensors, .pt or .pth.")] = None,
    data: Annotated[str | None, typer.Option(help="The data (`sparsify ls datasets`).")] = None,
    onnx: Annotated[Path | None, typer.Option(help="An ONNX file instead: pruned in the graph, no training.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --onnx: what to write.  [default: FILE-pruned.onnx]")] = None,
    pattern: Annotated[str, typer.Option(help="unstructured, 2:4 or any n:m, block:4x1, channel.")] = "unstructured",
    sparsity: Annotated[float | None, typer.Option(help="Target: fraction of the prunable weights to remove.")] = None,
    macs: Annotated[float | None, typer.Option(help="Target: fraction of the MACs that may remain (channel).")] = None,
    size: Annotated[str | None, typer.Option(help="Target: largest packed size, 2MB.")] = None,
    latency: Annotated[str | None, typer.Option(help="Target: largest median latency, 5ms.")] = None,
    speedup: Annotated[str | None, typer.Option(help="Target: least speedup over dense fp32, 2x.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Largest drop of the metric on validation, absolute: 0.01.")
    ] = None,
    criterion: Annotated[str, typer.Option(help="What scores a weight (`sparsify ls criteria`).")] = "magnitude",
    allocation: Annotated[
        str | None, typer.Option(help="global, uniform or erk.  [default: as the criterion compares]")
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Shuffle the mask within layers: does it matter which weights went?")
    ] = False,
    layer: Annotated[
        list[str] | None, typer.Option(metavar="GLOB=SPARSITY", help="Sparsity of some layers; 0 leaves them dense.")
    ] = None,
    calibration: Annotated[int, typer.Option(help="Training examples that criteria and recovery look at.")] = 512,
    recover: Annotated[str, typer.Option(help="Length of fine-tuning (3ep, 500it), or none.")] = "3ep",
    task: Annotated[str, typer.Option(help="What the network does (`sparsify ls tasks`).")] = "auto",
    target: Annotated[str, typer.Option(help="The runtime (`sparsify ls targets`).")] = "onnxruntime-cpu",
    threads: Annotated[int, typer.Option(help="Threads of the runtime.")] = 1,
    batch: Annotated[int, typer.Option(help="Examples per timed inference.")] = 1,
    allow_import: Annotated[
        list[str] | None, typer.Option(metavar="PACKAGE", help="Package whose code may build the model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    run_dir: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/NAME]", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field of the recipe.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Prune a trained network to a target; exit 0 when it is met, 4 when it is missed, 5 when that is open."""
    given = [name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
    if onnx is not None:
        _only(given, _FOR_ONNX, "--onnx")
        _onnx(
            onnx,
            out,
            pattern=pattern,
            sparsity=sparsity,
            criterion=criterion,
            allocation=allocation,
            overrides=_layers(layer or []),
            calibration=data,
            seed=seed,
            as_json=as_json,
        )
        return
    if recipe is not None:
        _only(given, _FOR_RECIPE, "a recipe")
        prune_recipe(recipe, overrides or [], run_dir, (), as_json=as_json)
    else:
        tree = {
            "kind": "prune",
            "name": _name(model, pattern),
            "seed": seed,
            "trained": {
                "model": _asked("--model", model),
                "weights": None if weights is None else str(weights),
                "allow_import": allow_import or [],
            },
            "data": _asked("--data", data),
            "task": task,
            "removal": {
                "pattern": pattern,
                "criterion": criterion,
                "allocation": allocation or "auto",
                "shuffled": shuffled,
                "overrides": _layers(layer or []),
                "calibration": calibration,
            },
            "target": {
                "sparsity": sparsity,
                "macs": macs,
                "size": None if size is None else _bytes(size),
                "latency_ms": None if latency is None else _number("--latency", latency, "ms"),
                "speedup": None if speedup is None else _number("--speedup", speedup, "x"),
                "max_drop": max_drop,
            },
            "recovery": {} if recover == "none" else {"finetune": {"steps": recover}, "distill": {}},
            "export": {"targets": [target]},
            "latency": {"batch_size": batch, "threads": threads},
        }
        _prune(_from_options(tree, overrides or []), run_dir, (), as_json=as_json)


def _from_options(tree: dict[str, Any], overrides: list[str]) -> PruneRecipe:
    """The recipe that options make; a fault is told of the option it came by. Raises `UsageError`."""
    from sparsify.recipe.faults import Fault

    try:
        return _load(json.dumps(tree), "command line", overrides)
    except RecipeError as error:
        faults = [fault for fault in error.faults if isinstance(fault, Fault)]
        told = [f"{_option(fault)}: expected {fault.expected}, got {fault.got}; {fault.mend}" for fault in faults]
        raise UsageError("\n".join(told)) from error


def _option(fault: Fault) -> str:
    """What a person typed for the field at fault: an option, or a `--set`."""
    if fault.place.line is None:  # an override is its own place
        return f"{fault.place}: {fault.path}"
    return next((option for path, option in _OPTIONS.items() if fault.path.startswith(path)), fault.path)


def _only(given: list[str], allowed: frozenset[str], beside: str) -> None:
    """Refuse options that would not be heard."""
    if unheard := [name for name in given if name not in allowed]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unheard)
        mend = "change a recipe by --set target.sparsity=0.5" if beside == "a recipe" else "leave them out"
        raise UsageError(f"{names}: expected no such option beside {beside}; {mend}")


def prune_recipe(
    recipe: str, overrides: list[str], run_dir: Path | None, reuse: tuple[Path, ...], *, as_json: bool
) -> None:
    """Run a recipe of kind prune, by path or by the name of a shipped one; ends with the target's exit code."""
    from sparsify.recipe.files import read_text, resolve_recipe_path

    path = resolve_recipe_path(recipe)
    _prune(_load(read_text(path), str(path), overrides), run_dir, reuse, as_json=as_json)


def _prune(recipe: PruneRecipe, run_dir: Path | None, reuse: tuple[Path, ...], *, as_json: bool) -> None:
    from sparsify.pipeline.observer import observer_for_people
    from sparsify.pipeline.prune import prune

    outcome = prune(recipe, run_dir, reuse=reuse, observer=observer_for_people(json=as_json))
    _answer(outcome, as_json=as_json)
    raise typer.Exit(EXIT_CODES[str(outcome.metrics["target.outcome"])])


def _answer(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"metrics": dict(outcome.metrics), "report": str(outcome.report)}))
        return
    from rich.console import Console

    from sparsify.report.prune_terminal import render_prune_terminal

    console = Console(file=sys.stderr)
    console.print(render_prune_terminal(outcome.metrics))
    folder = outcome.report.parent / "model"
    for line in (f'Network: {folder} (in Python: sparsify.load("{folder}"))', f"Report: {outcome.report}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _load(text: str, name: str, overrides: list[str]) -> PruneRecipe:
    from sparsify.pipeline.names import load_checked_prune

    return load_checked_prune(text, name, overrides)


def _asked(option: str, value: str | None) -> str:
    if not value:
        raise UsageError(
            f"{option}: expected one, got none; give --model, --weights and --data, or a recipe, or --onnx FILE"
        )
    return value


def _name(model: str | None, pattern: str) -> str:
    """A run's name from what it prunes: letters, digits and dashes."""
    text = f"{Path(model or 'model').name}-{pattern}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")[:64]


def _layers(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        glob, equals, number = text.rpartition("=")
        if not equals or not glob:
            raise UsageError(f"--layer: expected GLOB=SPARSITY such as 'features.0*=0', got {text!r}")
        found[glob] = _number("--layer", number, "")
    return found


def _number(option: str, text: str, unit: str) -> float:
    try:
        return float(text.strip().lower().removesuffix(unit))
    except ValueError:
        example = {"ms": "5ms", "x": "2x"}.get(unit, "0.5")
        raise UsageError(f"{option}: expected a number such as {example}, got {text!r}") from None


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _BYTES:
        raise UsageError(f"--size: expected bytes such as 2MB, 500kB or 1.5MiB, got {text!r}")
    return round(_number("--size", match[1], "") * _BYTES[match[2].lower()])


def _onnx(
    path: Path,
    out: Path | None,
    *,
    pattern: str,
    sparsity: float | None,
    criterion: str,
    allocation: str | None,
    overrides: dict[str, float],
    calibration: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Prune the graph alone; exit 0, for there is no target but the sparsity."""
    from sparsify.recipe.pattern import Pattern
    from sparsify_export.onnx_prune import prune_onnx

    final = out or Path(f"{path.stem}-pruned.onnx")
    if final.exists():
        raise UsageError(f"{final}: expected no such file yet, got one; name another with --out, or remove it")
    try:
        parsed = Pattern.parse(pattern)
    except ValueError as error:
        raise UsageError(f"--pattern: {error}") from None
    done = prune_onnx(
        path,
        final,
        pattern=parsed,
        sparsity=sparsity,
        criterion=criterion,
        allocation=allocation,  # pyright: ignore[reportArgumentType]  # checked inside
        overrides=overrides,
        calibration=None if calibration is None else Path(calibration.removeprefix("npz:")),
        seed=seed,
    )
    print(json.dumps(done.to_json()) if as_json else done.text(), file=sys.stdout if as_json else sys.stderr)
