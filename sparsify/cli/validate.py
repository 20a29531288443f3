"""`sparsify validate`: every fault of a recipe, one a line, in a form that editors can parse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sparsify.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from sparsify.recipe.faults import Fault


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's file, or the name of a shipped one.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a recipe; exit 0 when valid, 3 with every fault as file:line:column: path: expected, got; mend."""
    from sparsify.recipe.files import resolve_recipe_path

    path = resolve_recipe_path(recipe)
    faults = _faults(path, overrides or [])
    if as_json:
        document = {"valid": not faults, "file": str(path), "faults": [fault.as_dict() for fault in faults]}
        typer.echo(json.dumps(document))
    elif faults:
        typer.echo("\n".join(map(str, faults)), err=True)
    else:
        typer.echo(f"{path}: valid")
    if faults:
        raise typer.Exit(RecipeError.exit_code)


def _faults(path: Path, overrides: list[str]) -> list[Fault]:
    from sparsify.pipeline.names import load_checked, load_checked_prune
    from sparsify.recipe.faults import Fault
    from sparsify.recipe.files import read_text
    from sparsify.recipe.load import is_prune_recipe

    try:
        if is_prune_recipe(path):
            load_checked_prune(read_text(path), str(path), overrides)
        else:
            load_checked(path, overrides)
    except RecipeError as error:
        return [fault for fault in error.faults if isinstance(fault, Fault)]
    return []
