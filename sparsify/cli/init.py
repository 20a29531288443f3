"""`sparsify init`: a commented starter recipe, and beside it the schema by which editors check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsify.errors import UsageError

SCHEMA_NAME = "recipe.schema.json"


def command(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented starter recipe that runs as it is; its schema goes beside it unless one is there."""
    from sparsify.recipe.schema import schema_text
    from sparsify.recipe.starter import starter_yaml
    from sparsify.store.atomic import write_text

    path = path / "recipe.yaml" if path.is_dir() else path
    if path.exists() and not force:
        raise UsageError(f"{path}: expected no such file yet, got one; name another, or replace it with --force")
    schema = path.parent / SCHEMA_NAME
    if not schema.exists():
        write_text(schema, schema_text())
    write_text(path, starter_yaml(path.stem))
    typer.echo(f"wrote {path}; next: sparsify validate {path} && sparsify run {path}", err=True)
