"""`sparsify export`: a run's ticket, or an ONNX file, for one target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsify.cli.console import console
from sparsify.counted import counted
from sparsify.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from sparsify.pipeline.export import Exported
    from sparsify_export.targets import Target


def command(
    source: Annotated[Path, typer.Argument(help="A run's folder, or an ONNX file.", show_default=False)],
    target: Annotated[
        str, typer.Option(help="Where it will run: a name of `sparsify ls targets`.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to make.  [default: under exports/]", show_default=False)
    ] = None,
    level: Annotated[str, typer.Option(help="A level, `all`, or `auto` for the run's own choice.")] = "auto",
    replicate: Annotated[
        int | None, typer.Option(help="Whose ticket.  [default: the run's choice, 0 with --level]", show_default=False)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of sparse operators: f32, f16 or bf16, or i8 where that is faster.  [default: the recipe's, or f32]",
            show_default=False,
        ),
    ] = None,
    min_sparsity: Annotated[
        str | None,
        typer.Option(
            help="From where sparse operators replace a layer, or `auto`: where they are faster.  "
            "[default: the recipe's, or auto]",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Of an ONNX file's input, where sizes are open: NAME=1x128; what sparse operators are planned for. "
            "Repeat.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(help="Arrays by input name (.npz) to compare on.  [default: made up]", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Export to a target: checked ONNX, parity with PyTorch, sizes, and a plan where the target builds one.

    Target sparse-cpu rewrites the graph: layers whose zeros can be skipped become operators that skip them.
    """
    from sparsify.cli.shapes import read_shape
    from sparsify.pipeline.export import export_file, export_run, target_named
    from sparsify_export.sparse.options import DEFAULTS, read_options

    chosen = target_named(target)
    sparse = read_options(precision, min_sparsity)
    shapes = dict(map(read_shape, shape or ()))
    _require_use(
        chosen, source, sparse_given=sparse is not None, shapes_given=bool(shapes), examples_given=examples is not None
    )
    if source.is_dir():
        made = export_run(source, chosen, out, level, replicate, sparse)
    else:
        made = [export_file(source, chosen, out, sparse=sparse or DEFAULTS, shapes=shapes, examples=examples)]
    if as_json:
        print(json.dumps({"exports": [one.to_json() for one in made]}, allow_nan=False))
        return
    for one in made:
        _show(one)


def _require_use(target: Target, source: Path, *, sparse_given: bool, shapes_given: bool, examples_given: bool) -> None:
    """Refuse options that would do nothing."""
    if sparse_given and not target.sparse:
        raise UsageError(
            f"--precision, --min-sparsity: expected a target that rewrites graphs (sparse-cpu), got {target.name}"
        )
    if examples_given and not (target.sparse and source.is_file()):
        raise UsageError("--examples: expected an ONNX file and the target sparse-cpu, got another source or target")
    if shapes_given and not (target.provider and source.is_file()):
        raise UsageError(
            "--shape: expected an ONNX file and a target of ONNX Runtime, got another source or target; TensorRT takes "
            "an open first axis alone"
        )


def _show(one: Exported) -> None:
    """Where it lies, what it weighs, and what was and was not checked."""
    out = console(stderr=True)
    ticket = "" if one.level is None else f" (level {one.level}, replicate {one.replicate})"
    out.print(f"{one.out}{ticket}: {one.report['status']}")
    if missing := one.report["missing"]:
        out.print(f"  {missing}")
    if sizes := one.report.get("sizes"):
        dense = sizes["dense_fp32"]
        parts = [f"{name} {sizes[name]} ({sizes[name] / dense:.1%})" for name in ("masked", "packed", "shrunk", "onnx")]
        out.print(f"  bytes: dense {dense}, {', '.join(parts)}")
    for name, parity in one.report.get("parity", {}).items():
        worst = max(batch["max_rel_error"] for batch in parity["batches"])
        tolerance = parity["tolerance"]
        out.print(f"  {name}: largest error {worst:.2g} of {tolerance['relative']:.2g} allowed ({tolerance['reason']})")
    _show_layers(out, one.report)
    for plan in one.report.get("plans", ()):
        layers = counted(len(plan["layers"]), "layer")
        out.print(f"  {plan['path']}: {plan['plan_bytes']} bytes, {layers}; {plan['statement']}")


def _show_layers(out: Console, report: Mapping[str, Any]) -> None:
    """A table of what became of each layer, and how far the new graph is from the old one."""
    from sparsify.cli.inspect import plan_table

    sparse = report.get("sparse") or {}
    layers = report.get("layers") or sparse.get("plan", {}).get("layers", ())
    if layers:
        out.print(plan_table(layers))
    if planned := report.get("planned_for"):
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in planned.items())
        out.print(f"  planned for {shapes} (--shape), on one thread")
    if plan := sparse.get("plan"):
        out.print(f"  {plan['summary']}")
    if parity := report.get("sparse_parity") or sparse.get("parity"):
        for output in parity["outputs"]:
            out.print(
                f"  {output['name']}: on inputs {parity['inputs']}, against the dense graph: largest error "
                f"{output['largest']:.2g}, RMS {output['rms']:.2g}, of {parity['tolerance']:.2g} allowed "
                f"({parity['reason']})"
            )
