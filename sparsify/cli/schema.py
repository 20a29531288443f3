"""`sparsify schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def command(
    kind: Annotated[Literal["tickets", "prune"], typer.Argument(help="Recipes of `run`, or of `prune`.")] = "tickets",
) -> None:
    """Print the recipe's JSON Schema (draft 2020-12); keep it beside your recipes and name it in their first line."""
    from sparsify.recipe.schema import schema_text

    typer.echo(schema_text(kind), nl=False)
