"""`sparsify init`: a commented starter recipe, and beside it the schema by which editors check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsify.errors import UsageError

SCHEMAS = {"tickets": "recipe.schema.json", "prune": "prune.schema.json"}
_VERBS = {"tickets": "run", "prune": "prune"}


def command(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    kind: Annotated[
        Literal["tickets", "prune"], typer.Option(help="A recipe of `run`, which finds tickets, or of `prune`.")
    ] = "tickets",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented starter recipe, of tickets one that runs as it is; its schema goes beside it unless there."""
    from sparsify.recipe.schema import schema_text
    from sparsify.recipe.starter import starter_yaml
    from sparsify.store.atomic import write_text

    path = path / "recipe.yaml" if path.is_dir() else path
    if path.exists() and not force:
        raise UsageError(f"{path}: expected no such file yet, got one; name another, or replace it with --force")
    schema = path.parent / SCHEMAS[kind]
    if not schema.exists():
        write_text(schema, schema_text(kind))
    write_text(path, starter_yaml(path.stem, kind))
    typer.echo(f"wrote {path}; next: sparsify validate {path} && sparsify {_VERBS[kind]} {path}", err=True)
