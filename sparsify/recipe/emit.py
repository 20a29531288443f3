"""A recipe as canonical YAML: every field, defaults and all, in the order of the models; the same text each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsify.recipe.scalar import text_of
from sparsify.recipe.spec import Spec


def resolved_yaml(recipe: Spec) -> str:
    """The recipe as YAML that loads back to an equal one; keys of `prune.overrides` keep their order, which matters."""
    return "\n".join(_mapping(recipe.model_dump(mode="json"), "")) + "\n"


def _mapping(mapping: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        name = f"{indent}{text_of(key)}:"
        if isinstance(value, dict) and value:
            yield name
            yield from _mapping(value, f"{indent}  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield name
            for item in value:
                first, *rest = _mapping(item, f"{indent}    ")
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            yield f"{name} {_flow(value)}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return f"[{', '.join(_flow(item) for item in value)}]" if isinstance(value, list) else text_of(value)
