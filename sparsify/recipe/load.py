"""A recipe's file and its overrides to a `Recipe`, or to every fault at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sparsify.errors import RecipeError
from sparsify.recipe.explain import explain
from sparsify.recipe.faults import Fault
from sparsify.recipe.fewer_levels import leave_out_deeper_levels
from sparsify.recipe.files import read_text
from sparsify.recipe.misfit import Check, Misfit, shown
from sparsify.recipe.overrides import Override, apply_overrides, parse_override
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.rules import rules
from sparsify.recipe.spec import PruneSpec, Recipe, Spec
from sparsify.recipe.yaml_source import Document, read_yaml

_Kind = TypeVar("_Kind", bound=Spec)


def load_recipe(path: Path, overrides: Sequence[str] = (), checks: Iterable[Check] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: The YAML file; `resolve_recipe_path` finds it from what a person typed.
        overrides: `a.b=c` each, as given to `--set`; of several for one field the last wins.
        checks: Further checks of the plain tree, such as `sparsify.pipeline.names.NAME_CHECKS`: which models, data
            and targets exist is not known down here.

    Raises:
        RecipeError: The recipe is invalid; `faults` holds every `Fault`, in the file's order and then the overrides'.
        UsageError: An override has no `=`.
        InputOutputError: The file cannot be read.
    """
    document, parsed = _read(read_text(path), str(path), overrides)
    leave_out_deeper_levels(document, parsed)
    return _checked(Recipe, document, [*checks, _rules])


def load_prune_recipe(text: str, name: str, overrides: Sequence[str] = (), checks: Iterable[Check] = ()) -> PruneRecipe:
    """Check a recipe of `sparsify prune`; raises as `load_recipe` does.

    Args:
        text: YAML, of which JSON is a part.
        name: What messages call it: the file it was read from, or `command line`.
        overrides: As for `load_recipe`.
        checks: As for `load_recipe`.
    """
    document, _ = _read(text, name, overrides)
    return _checked(PruneRecipe, document, checks)


def is_prune_recipe(path: Path) -> bool:
    """Whether the file says `kind: prune`; a file that is no YAML mapping says nothing."""
    tree = read_yaml(read_text(path), str(path)).tree
    return isinstance(tree, dict) and tree.get("kind") == "prune"


def _read(text: str, name: str, overrides: Sequence[str]) -> tuple[Document, list[Override]]:
    """The document with its overrides applied."""
    parsed = [parse_override(one, rank) for rank, one in enumerate(overrides, start=1)]
    document = read_yaml(text, name)
    if not isinstance(document.tree, dict):
        raise RecipeError(document.faults or [_not_a_mapping(document)])
    _spell_out_data(document)
    apply_overrides(document, parsed)
    return document, parsed


def _checked(kind: type[_Kind], document: Document, checks: Iterable[Check]) -> _Kind:
    recipe, misfits = _validate(kind, document.tree, checks)
    faults = sorted([*document.faults, *_located(misfits, document)], key=lambda fault: fault.place.order)
    if recipe is None or faults:
        raise RecipeError(faults)
    return recipe


def _rules(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    return rules(tree, PruneSpec().levels)


def _validate(kind: type[_Kind], tree: dict[str, Any], checks: Iterable[Check]) -> tuple[_Kind | None, list[Misfit]]:
    found: list[Misfit] = []
    for check in checks:
        found += check(tree)
    try:
        return kind.model_validate(with_tuples(tree), strict=True), found
    except ValidationError as error:
        known = {misfit.path for misfit in found}
        return None, found + [misfit for misfit in explain(error, tree) if misfit.path not in known]


def _located(misfits: Iterable[Misfit], document: Document) -> Iterator[Fault]:
    """The misfits with their places, but for those below a value that was refused as YAML already."""
    for misfit in misfits:
        above = (misfit.path[:length] for length in range(len(misfit.path) + 1))
        if document.opaque.isdisjoint(above):
            yield Fault.of(misfit, document.place(misfit.path, at_key=misfit.at_key))


def _spell_out_data(document: Document) -> None:
    """Write `data: digits` as `data: {source: digits}`, so that overrides and messages see one form."""
    data = document.tree.get("data")
    if isinstance(data, str):
        document.tree["data"] = {"source": data}
        document.values["data", "source"] = document.values[("data",)]


def with_tuples(value: Any) -> Any:
    """A plain tree with its lists as tuples: what the frozen models hold, and all that strict validation takes."""
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(with_tuples(item) for item in value) if isinstance(value, list) else value


def _not_a_mapping(document: Document) -> Fault:
    got = "an empty file" if document.tree is None else shown(document.tree)
    mend = "begin with name: and model:, or write a starter with `sparsify init`"
    return Fault.of(Misfit((), expected="a mapping of keys at the top", got=got, mend=mend), document.place(()))
