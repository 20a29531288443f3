"""`sparsify prune`: a network somebody trained, smaller; its accuracy, size and speed measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsify.cli import prune_files
from sparsify.cli import prune_options as options
from sparsify.cli.console import console
from sparsify.cli.prune_recovery import recovery, recovery_in_words
from sparsify.cli.shapes import read_shape
from sparsify.errors import UsageError

if TYPE_CHECKING:
    from sparsify.pipeline.outcome import Outcome
    from sparsify.recipe.prune_recipe import PruneRecipe

_FOR_RECIPE = frozenset({"recipe", "overrides", "run_dir", "dry_run", "as_json"})
_FOR_ONNX = frozenset(
    {"onnx", "out", "pattern", "sparsity", "criterion", "allocation", "layer", "shape", "seed", "as_json"}
    | {"data", "image_size", "resize", "normalize", "calibration"}
)
_FOR_FILE = frozenset({"file", "out", "pattern", "sparsity", "criterion", "allocation", "layer", "as_json"})
EXIT_CODES = {"met": 0, "missed": 4, "inconclusive": 5}


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
    data: Annotated[
        str | None,
        typer.Option(
            help="The data (`sparsify ls datasets`); with --onnx also FILE.npz by the inputs' names, or FILE.npy."
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pictures: side in pixels that is cropped.  [default: as the model's library has it]"),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(help="Pictures: side that the shorter side is resized to before.  [default: likewise]"),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="WORD|MEAN/STD",
            help="imagenet, standard (fitted to the data), unit, none, or 0.5,0.5,0.5/0.5,0.5,0.5.  [default: of "
            "pictures as the model's library has it, of npz arrays for a model of one's own none, else standard]",
        ),
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="An ONNX file instead: pruned in the graph, no training.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A safetensors file instead, or the .index.json of several: pruned by magnitude, piece by piece, "
            "whatever its size.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --onnx and --file: what to write, of several files the folder.  [default: FILE-pruned.onnx, "
            "FILE-pruned.safetensors]",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="With --onnx: shape of an input that the graph leaves open: name=1x3x224x224."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="unstructured, 2:4 or any n:m, block:4x1, channel.  [default: channel where work or time is asked "
            "for, else unstructured]",
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(
            help="Target: fraction to remove, 0.5 or 50%, of the prunable weights: with channels of all of them, else "
            "of the layers that compete, which the pattern fits and which have no --layer of their own.",
        ),
    ] = None,
    macs: Annotated[str | None, typer.Option(help="Target: fraction of the MACs that may remain (channel).")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Target: largest size, 2MB (a number alone is bytes): of the target's model.onnx with channels or "
            "sparse-cpu; else, as a dense runtime stores every zero, of model/weights.packed, as sparsify.load reads.",
        ),
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Target: largest median latency, 5ms; a number alone is milliseconds.")
    ] = None,
    speedup: Annotated[str | None, typer.Option(help="Target: least speedup over dense fp32, 2x.")] = None,
    max_drop: Annotated[
        str | None, typer.Option(help="Largest drop of the metric on validation, absolute: 0.01 or 1%.")
    ] = None,
    criterion: Annotated[str, typer.Option(help="What scores a weight (`sparsify ls criteria`).")] = "magnitude",
    allocation: Annotated[
        str | None,
        typer.Option(help="global, uniform, erk, or searched by measuring.  [default: as the criterion compares]"),
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Shuffle what goes within each layer: does it matter which weights went?")
    ] = False,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB=SPARSITY",
            help="Sparsity of some layers, by the layer's name or its weight's, 0.3 or 30%; 0 leaves them dense.",
        ),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option(
            help="Channels left are a multiple of it.  [default: 1; for --speedup and --latency what this processor "
            "computes at a time: 16 with AVX-512, else 8]",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[int, typer.Option(help="Training examples that criteria and recovery look at.")] = 512,
    recover: Annotated[str, typer.Option(help="Length of fine-tuning (3ep, 500it), or none.")] = "3ep",
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of fine-tuning at its peak.  [default: 0.01 with SGD; 0.0001 with AdamW, warm-up and "
            "clipping for transformers]",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step of fine-tuning.  [default: 60]")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="How fine-tuning's learning rate moves: cosine, linear or constant.  [default: cosine]"),
    ] = None,
    task: Annotated[str, typer.Option(help="What the network does (`sparsify ls tasks`).")] = "auto",
    target: Annotated[str, typer.Option(help="The runtime (`sparsify ls targets`).")] = "onnxruntime-cpu",
    precision: Annotated[
        str | None,
        typer.Option(help="Of the target sparse-cpu: f32, f16, bf16 or i8.  [default: f32]", show_default=False),
    ] = None,
    min_sparsity: Annotated[
        str | None,
        typer.Option(
            help="From where sparse-cpu replaces a layer, or `auto`: where it is faster.  [default: auto]",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of the runtime.")] = 1,
    batch: Annotated[int, typer.Option(help="Examples per timed inference.")] = 1,
    allow_import: Annotated[
        list[str] | None, typer.Option(metavar="PACKAGE", help="Package whose code may build the model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run folder.  [default: runs/MODEL-PATTERN-TARGET]", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field of the recipe.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what can be pruned, how far, and which stages would run; write nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Prune a trained network to a target; exit 0 when it is met, 4 when it is missed, 5 when that is open."""
    given = [name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
    if onnx is not None:
        _only(given, _FOR_ONNX, "--onnx")
        with options.told_by_option():
            prune_files.prune_graph(
                onnx,
                out,
                pattern=options.mask_pattern(pattern),
                sparsity=options.fraction("--sparsity", sparsity),
                criterion=criterion,
                allocation=allocation,
                overrides=options.layers(layer or []),
                data=None if data is None else options.data(data, image_size, resize, normalize),
                calibration=calibration,
                shapes=dict(map(read_shape, shape or ())),
                seed=seed,
                as_json=as_json,
            )
        return
    if file is not None:
        _only(given, _FOR_FILE, "--file")
        with options.told_by_option():
            prune_files.prune_weights(
                file,
                out,
                pattern=options.mask_pattern(pattern),
                sparsity=options.fraction("--sparsity", sparsity),
                criterion=criterion,
                allocation=allocation or "global",
                overrides=options.layers(layer or []),
                as_json=as_json,
            )
        return
    if recipe is not None:
        _only(given, _FOR_RECIPE, "a recipe")
        prune_recipe(recipe, overrides or [], run_dir, (), dry_run=dry_run, as_json=as_json)
    else:
        asked = {
            "sparsity": options.fraction("--sparsity", sparsity),
            "macs": options.fraction("--macs", macs),
            "size": None if size is None else options.size_in_bytes(size),
            "latency_ms": None if latency is None else options.number("--latency", latency, "ms"),
            "speedup": None if speedup is None else options.number("--speedup", speedup, "x"),
        }
        how = options.pattern_for(pattern, asked, target)
        tree = {
            "kind": "prune",
            "name": options.run_name(model, how, asked, criterion=criterion, shuffled=shuffled),
            "seed": seed,
            "trained": {
                "model": options.asked("--model", model),
                "weights": None if weights is None else str(weights),
                "allow_import": allow_import or [],
            },
            "data": options.data(options.asked("--data", data), image_size, resize, normalize),
            "task": task,
            "removal": {
                "pattern": how,
                "criterion": criterion,
                "allocation": allocation or "auto",
                "shuffled": shuffled,
                "overrides": options.layers(layer or []),
                "calibration": calibration,
                **options.round_to_for(round_to, how, asked),
            },
            "target": {**asked, "max_drop": options.difference("--max-drop", max_drop)},
            "recovery": recovery(
                options.asked("--model", model), recover, lr=lr, batch_size=batch_size, schedule=schedule
            ),
            "export": {"targets": [target], "sparse": options.sparse(precision, min_sparsity)},
            "latency": {"batch_size": batch, "threads": threads},
        }
        made = options.recipe_of(tree, overrides or [])
        try:
            _prune(made, run_dir, (), dry_run=dry_run, as_json=as_json, note=recovery_in_words(made))
        except UsageError as error:
            raise options.by_option(error, made) from error


def _only(given: list[str], allowed: frozenset[str], beside: str) -> None:
    """Refuse options that would not be heard."""
    if unheard := [name for name in given if name not in allowed]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unheard)
        mend = "change a recipe by --set target.sparsity=0.5" if beside == "a recipe" else "leave them out"
        raise UsageError(f"{names}: expected no such option beside {beside}; {mend}")


def prune_recipe(
    recipe: str,
    overrides: list[str],
    run_dir: Path | None,
    reuse: tuple[Path, ...],
    *,
    dry_run: bool = False,
    as_json: bool,
) -> None:
    """Run a recipe of kind prune, by path or by the name of a shipped one; ends with the target's exit code."""
    from sparsify.recipe.files import read_text, resolve_recipe_path

    path = resolve_recipe_path(recipe)
    _prune(_load(read_text(path), str(path), overrides), run_dir, reuse, dry_run=dry_run, as_json=as_json)


def _prune(
    recipe: PruneRecipe,
    run_dir: Path | None,
    reuse: tuple[Path, ...],
    *,
    dry_run: bool,
    as_json: bool,
    note: str = "",
) -> None:
    if dry_run:
        from sparsify.pipeline.prune_dry_run import dry_run as plan_of

        plan = plan_of(recipe, run_dir, reuse=reuse)
        if note and not as_json:
            console(stderr=True).print(note, soft_wrap=True)
        print(json.dumps(plan.to_json()) if as_json else plan)
        return
    from sparsify.pipeline.observer import observer_for_people
    from sparsify.pipeline.prune import prune

    outcome = prune(recipe, run_dir, reuse=reuse, observer=observer_for_people(json=as_json), notes=(note,))
    _answer(outcome, as_json=as_json)
    raise typer.Exit(EXIT_CODES[str(outcome.metrics["target.outcome"])])


def _answer(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"metrics": dict(outcome.metrics), "report": str(outcome.report)}))
        return
    from sparsify.report.prune_terminal import render_prune_terminal

    out = console(stderr=True)
    out.print(render_prune_terminal(outcome.metrics))
    folder = outcome.report.parent / "model"
    for line in (f'Network: {folder} (in Python: sparsify.load("{folder}"))', f"Report: {outcome.report}"):
        out.print(line, soft_wrap=True)


def _load(text: str, name: str, overrides: list[str]) -> PruneRecipe:
    from sparsify.pipeline.names import load_checked_prune

    return load_checked_prune(text, name, overrides)
