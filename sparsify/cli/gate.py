"""`sparsify gate`: hold a run against the thresholds of its recipe; 0 passed, 4 failed, 5 inconclusive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsify.cli.console import console
from sparsify.errors import CorruptError, InputOutputError, UsageError

if TYPE_CHECKING:
    from sparsify.pipeline.gate import GateResult
    from sparsify.recipe.spec import GateSpec


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Set a threshold: gate.speedup=1.2.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Hold a finished run against `gate:`; exit 0 passed, 4 failed, 5 inconclusive."""
    from sparsify.pipeline.gate import judge

    metrics = _metrics(run)
    result = judge(metrics, _gate(run, overrides or ()))
    if as_json:
        typer.echo(json.dumps({"run": str(run), **result.to_json()}))
    else:
        _tell(run, result)
    raise typer.Exit(result.exit_code)


def _metrics(run: Path) -> dict[str, Any]:
    """The run's metrics; they and the exported files are unchanged since they were written.

    Raises:
        InputOutputError: It is no run, or not a finished one.
        CorruptError: `metrics.json`, or what would be deployed, is not what the manifest lists.
    """
    from sparsify.store.digest import file_sha256
    from sparsify.store.layout import METRICS
    from sparsify.store.run import Run

    manifest, path = Run.load(run).manifest(), run / METRICS
    if manifest is None or not path.is_file():
        raise InputOutputError(
            f"{run}: expected a finished run, got an unfinished one; the command that began it ends it"
        )
    if manifest["files"].get(METRICS, {}).get("sha256") != file_sha256(path):
        raise CorruptError(f"{path}: changed since the run wrote it; see `sparsify verify {run}`")
    for name, file in manifest["files"].items():
        if name.startswith(("export/", "model/")) and file_sha256(run / name) != file["sha256"]:
            raise CorruptError(f"{run / name}: changed since the run wrote it; see `sparsify verify {run}`")
    return json.loads(path.read_text())


def _gate(run: Path, overrides: Sequence[str]) -> GateSpec:
    """The thresholds of the run's recipe, with overrides."""
    from sparsify.recipe.load import is_prune_recipe, load_prune_recipe, load_recipe
    from sparsify.recipe.spec import GateSpec
    from sparsify.store.layout import RESOLVED

    for text in overrides:
        if not text.strip().startswith("gate."):
            names = ", ".join(f"gate.{name}" for name in GateSpec.model_fields)
            raise UsageError(f"--set {text}: expected one of {names}; the run is done")
    path = run / RESOLVED
    if is_prune_recipe(path):
        return load_prune_recipe(path.read_text(), str(path), overrides).gate
    return load_recipe(path, overrides).gate


def _tell(run: Path, result: GateResult) -> None:
    from rich.text import Text

    styles = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
    out = console(stderr=True)
    for check in result.checks:
        name = check.check + (f" on {check.target}" if check.target else "")
        sign = {"speedup": "at least ", "target": ""}.get(check.check, "at most ")
        got = "nothing measured" if check.achieved is None else _shown(check.achieved)
        line = Text(f"{check.outcome}: ", style=styles[check.outcome])
        line.append(f"{name}: asked {sign}{_shown(check.asked)}, got {got}; {check.reason}", style="default")
        out.print(line, soft_wrap=True)
    out.print(Text(f"{run}: gate {result.outcome}", style=styles[result.outcome]), soft_wrap=True)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
