"""`sparsify ls`: what a recipe can name, one line each. Reads catalogues only, so it answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol

import typer


class _Entry(Protocol):
    @property
    def summary(self) -> str: ...


def _recipes() -> dict[str, str]:
    from sparsify.recipe.files import read_text, shipped_recipes
    from sparsify.recipe.yaml_source import read_yaml

    found: dict[str, str] = {}
    for path in shipped_recipes():
        tree = read_yaml(read_text(path), str(path)).tree
        found[path.stem] = str(tree.get("description", "")) if isinstance(tree, dict) else ""
    return found


def _models() -> dict[str, str]:
    from sparsify.models.catalogue import MODELS
    from sparsify.models.source_name import SOURCES

    return _summaries({**MODELS, **SOURCES})


def _datasets() -> dict[str, str]:
    from sparsify.data.catalogue import DATASETS

    return _summaries(DATASETS)


def _criteria() -> dict[str, str]:
    from sparsify.criteria.catalogue import CRITERIA

    return _summaries(CRITERIA)


def _targets() -> dict[str, str]:
    from sparsify_export.sparse.available import why_not
    from sparsify_export.targets import TARGETS

    missing = why_not()
    return {
        name: f"{target.summary} Not here: {target.needs}." if target.sparse and missing else target.summary
        for name, target in TARGETS.items()
    }


def _tasks() -> dict[str, str]:
    from sparsify.train.task_catalogue import TASKS

    return _summaries(TASKS)


def _probes() -> dict[str, str]:
    from sparsify.probes.registry import PROBES

    return _summaries(PROBES)


Kind = Literal["recipes", "models", "datasets", "criteria", "targets", "probes", "tasks"]

# kind -> what lists it: name -> one line
KINDS: dict[Kind, Callable[[], dict[str, str]]] = {
    "recipes": _recipes,
    "models": _models,
    "datasets": _datasets,
    "criteria": _criteria,
    "targets": _targets,
    "probes": _probes,
    "tasks": _tasks,
}


def command(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; all if not given.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List what a recipe can name."""
    listed = {name: KINDS[name]() for name in KINDS if kind in (None, name)}
    if as_json:
        rows = {
            each: [{"name": name, "summary": text} for name, text in names.items()] for each, names in listed.items()
        }
        typer.echo(json.dumps(rows))
        return
    for each, names in listed.items():
        if kind is None:
            typer.echo(f"{each}:")
        width = max(map(len, names), default=0)
        indent = "" if kind else "  "
        typer.echo("\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in names.items()))


def _summaries(entries: Mapping[str, _Entry]) -> dict[str, str]:
    return {name: entry.summary for name, entry in entries.items()}
