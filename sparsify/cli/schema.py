"""`sparsify schema`: the recipe's JSON Schema, for editors."""

from __future__ import annotations

import typer


def command() -> None:
    """Print the recipe's JSON Schema (draft 2020-12); keep it beside your recipes and name it in their first line."""
    from sparsify.recipe.schema import schema_text

    typer.echo(schema_text(), nl=False)
