"""`sparsify run`: a recipe, from data to answer, or from wherever it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's path, or the name of a shipped one.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/NAME]", show_default=False)] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: prune.levels=3.")] = None,
    only: Annotated[str | None, typer.Option(help="Stop after a phase: tickets, probes, test, export, latency.")] = None,
    reuse: Annotated[list[Path] | None, typer.Option(help="Take stages of equal key from this run.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Shorten everything to seconds, to see that it runs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and what is complete; run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Run a recipe, whole or from where it stopped."""
    from sparsify.pipeline.names import load_checked
    from sparsify.pipeline.observer import observer_for_people
    from sparsify.pipeline.run import run
    from sparsify.pipeline.smoke import smoke as shortened
    from sparsify.recipe.files import resolve_recipe_path

    loaded = load_checked(resolve_recipe_path(recipe), overrides or ())
    if smoke:
        loaded = shortened(loaded)
    if dry_run:
        from sparsify.pipeline.dry_run import show

        show(loaded, run_dir, json=as_json)
        return
    outcome = run(
        loaded, run_dir, only=only, reuse=tuple(reuse or ()), observer=observer_for_people(json=as_json)
    )
    _answer(outcome, as_json=as_json)


def _answer(outcome: object, *, as_json: bool) -> None:
    print(outcome)
