"""Walking the recipe's models by key path: which part of a recipe a path names, and which keys it may have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import Recipe


def annotation_at(path: Iterable[str | int], tree: Any) -> Any:
    """The type of the field at `path`, or None where no field is. `tree` decides between the members of a union."""
    annotation: Any = PruneRecipe if child(tree, "kind") == "prune" else Recipe
    for key in path:
        annotation = _annotation_below(annotation, key, tree)
        tree = child(tree, key)
    return annotation


def model_at(path: Iterable[str | int], tree: Any) -> type[BaseModel] | None:
    """The model at `path`, or None where there is a plain value, or a union that `tree` does not decide."""
    keys = tuple(path)
    value = tree
    for key in keys:
        value = child(value, key)
    return _model_for(annotation_at(keys, tree), value)


def child(tree: Any, key: str | int) -> Any:
    """The value under `key`, or None where a tree of any shape has none."""
    if isinstance(tree, dict):
        return tree.get(key)
    if isinstance(tree, (list, tuple)) and isinstance(key, int) and 0 <= key < len(tree):
        return tree[key]
    return None


def holds_named_values(annotation: Any) -> bool:
    """Whether the field is a mapping whose keys are the user's own, so that a dot in a key is part of it."""
    return get_origin(annotation) is dict


def is_list(annotation: Any) -> bool:
    """Whether the field is a list."""
    return get_origin(annotation) is tuple


def _annotation_below(annotation: Any, key: str | int, value: Any) -> Any:
    arguments = get_args(annotation)
    if holds_named_values(annotation):
        return arguments[1]
    if is_list(annotation):
        return arguments[0]
    model = _model_for(annotation, value)
    field = model.model_fields.get(str(key)) if model else None
    return field.annotation if field else None


def _model_for(annotation: Any, value: Any) -> type[BaseModel] | None:
    models = list(_models_in(annotation))
    if len(models) <= 1:
        return models[0] if models else None
    name = child(value, "name")
    return next((model for model in models if name in get_args(model.model_fields["name"].annotation)), None)


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (tuple, dict, Literal):
        for argument in get_args(annotation):
            yield from _models_in(argument)
