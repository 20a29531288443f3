"""`sparsify run`: a recipe, from data to answer, or from wherever it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsify.cli.console import console
from sparsify.errors import UsageError

if TYPE_CHECKING:
    from sparsify.pipeline.outcome import Outcome


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's path, or the name of a shipped one.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/NAME]", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field: prune.levels=3.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Stop after: tickets, probes, test, export or latency.")] = None,
    reuse: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Take stages of equal key from this run.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Shorten everything to seconds, to see that it runs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is complete and what would run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Run a recipe, whole or from where it stopped; the same command resumes."""
    from sparsify.recipe.files import resolve_recipe_path
    from sparsify.recipe.load import is_prune_recipe

    if is_prune_recipe(resolve_recipe_path(recipe)):
        from sparsify.cli.prune import prune_recipe

        if only or smoke:
            raise UsageError("--only, --smoke: expected a recipe of tickets, got one of kind prune")
        prune_recipe(recipe, overrides or [], run_dir, tuple(reuse or ()), dry_run=dry_run, as_json=as_json)
        return
    from sparsify.pipeline.names import load_checked
    from sparsify.pipeline.observer import observer_for_people
    from sparsify.pipeline.run import run
    from sparsify.pipeline.smoke import smoke as shortened

    loaded = load_checked(recipe, overrides or ())
    if smoke:
        loaded = shortened(loaded)
    if dry_run:
        from sparsify.pipeline.dry_run import dry_run as plan_of

        plan = plan_of(loaded, run_dir, reuse=tuple(reuse or ()))
        print(json.dumps(plan.to_json()) if as_json else plan)
        return
    observer = observer_for_people(json=as_json)
    outcome = run(loaded, run_dir, only=only, reuse=tuple(reuse or ()), observer=observer)
    if outcome is not None:
        _answer(outcome, as_json=as_json)
    elif as_json:
        print(json.dumps({"stopped_after": only}))


def _answer(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"metrics": dict(outcome.metrics), "report": str(outcome.report)}))
        return
    from sparsify.report.terminal import render_terminal

    out = console(stderr=True)
    out.print(render_terminal(outcome.metrics, width=out.width))
    out.print(f"Report: {outcome.report}", soft_wrap=True)
