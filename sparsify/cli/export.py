"""`sparsify export`: a run's ticket, or an ONNX file, for one target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sparsify.pipeline.export import Exported


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Export to a target: checked ONNX, parity with PyTorch, sizes, and a plan where the target builds one."""
    from sparsify.pipeline.export import export_file, export_run, target_named

    chosen = target_named(target)
    is_run = source.is_dir()
    made = export_run(source, chosen, out, level, replicate) if is_run else [export_file(source, chosen, out)]
    if as_json:
        print(json.dumps({"exports": [one.to_json() for one in made]}, allow_nan=False))
        return
    for one in made:
        _show(one)


def _show(one: Exported) -> None:
    """Where it lies, what it weighs, and what was and was not checked."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    ticket = "" if one.level is None else f" (level {one.level}, replicate {one.replicate})"
    console.print(f"{one.out}{ticket}: {one.report['status']}")
    if missing := one.report["missing"]:
        console.print(f"  {missing}")
    if sizes := one.report.get("sizes"):
        dense = sizes["dense_fp32"]
        parts = [f"{name} {sizes[name]} ({sizes[name] / dense:.1%})" for name in ("masked", "packed", "shrunk")]
        console.print(f"  bytes: dense {dense}, {', '.join(parts)}")
    for name, parity in one.report.get("parity", {}).items():
        worst = max(batch["max_rel_error"] for batch in parity["batches"])
        tolerance = parity["tolerance"]
        console.print(
            f"  {name}: largest error {worst:.2g} of {tolerance['relative']:.2g} allowed ({tolerance['reason']})"
        )
    for plan in one.report.get("plans", ()):
        console.print(
            f"  {plan['path']}: {plan['plan_bytes']} bytes, {len(plan['layers'])} layers; {plan['statement']}"
        )
