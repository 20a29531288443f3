"""What must hold between the fields of a recipe.

A rule reads the plain tree, so that it also speaks where other fields are at fault, and stays silent where its own are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from sparsify.recipe.misfit import Misfit, shown
from sparsify.recipe.step import Step

KeyPath = tuple[str | int, ...]


def rules(tree: Mapping[str, Any], default_levels: int) -> Iterator[Misfit]:
    """Every misfit between the fields of `tree`: a recipe as parsed from YAML, or as `Recipe.model_dump` gives it.

    `default_levels` is what `prune.levels` is where the tree does not say.
    """
    yield from _levels_exist(tree, default_levels)
    yield from _named_once(tree)
    yield from _training_takes_time(tree)
    yield from _within_training(tree)
    yield from _milestones(tree)


def _levels_exist(tree: Mapping[str, Any], default_levels: int) -> Iterator[Misfit]:
    deepest = _get(tree, "prune", "levels", default=default_levels)
    if not _is_count(deepest):
        return
    for path, level in _levels(tree):
        if level > deepest:
            expected, mend = f"a level up to prune.levels, {deepest}", "raise prune.levels, or name an earlier level"
            yield Misfit(path, expected=expected, got=shown(level), mend=mend)


def _levels(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, int]]:
    """Every level that is named anywhere, with its path."""
    for part in ("controls", "probes"):
        for i, item in enumerate(_list(tree.get(part))):
            for j, level in enumerate(_list(_get(item, "levels"))):
                if _is_count(level):
                    yield (part, i, "levels", j), level
    if _is_count(level := _get(tree, "export", "level")):
        yield ("export", "level"), level


def _named_once(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    for part in ("controls", "probes"):
        items = _list(tree.get(part))
        names = [_get(item, "name", default="perturb-rest" if part == "probes" else None) for item in items]
        mend = "give it once, with all its levels"
        yield from _repeats(names, tuple((part, i, "name") for i in range(len(items))), mend)
        for i, item in enumerate(items):
            levels = _list(_get(item, "levels"))
            yield from _repeats(levels, tuple((part, i, "levels", j) for j in range(len(levels))), "remove one")
    for key in ("targets", "batch_sizes"):
        values = _list(_get(tree, "export", key))
        yield from _repeats(values, tuple(("export", key, j) for j in range(len(values))), "remove one")


def _repeats(values: list[Any], paths: tuple[KeyPath, ...], mend: str) -> Iterator[Misfit]:
    for i, (value, path) in enumerate(zip(values, paths, strict=True)):
        if isinstance(value, (str, int)) and value in values[:i]:
            yield Misfit(path, expected="each of them once", got=f"{shown(value)} again", mend=mend)


def _training_takes_time(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    for key, mend in (("steps", "600it"), ("eval_every", "50it")):
        step = _step(_get(tree, "train", key))
        if step and step.count == 0:
            yield Misfit(("train", key), expected="at least one step", got=str(step), mend=f"write for example {mend}")


def _within_training(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Rewinding, warm-up and milestones lie before the end; steps in different units cannot be compared here."""
    steps = _step(_get(tree, "train", "steps"))
    milestones = ("train", "schedule", "milestones")
    placed: list[tuple[KeyPath, Any]] = [((*milestones, i), v) for i, v in enumerate(_list(_get(tree, *milestones)))]
    placed += [(path, _get(tree, *path)) for path in (("prune", "rewind"), ("train", "schedule", "warmup"))]
    for path, value in placed:
        step = _step(value)
        if step and steps and step.count and step.unit == steps.unit and step.count >= steps.count:
            expected = f"a step before the end of training, train.steps = {steps}"
            yield Misfit(path, expected=expected, got=str(step), mend="name an earlier one, or train longer")


def _milestones(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    path = ("train", "schedule", "milestones")
    steps = [_step(value) for value in _list(_get(tree, *path))]
    for i, (before, after) in enumerate(pairwise(steps), start=1):
        if before and after and before.unit == after.unit and after.count <= before.count:
            got = f"{after} after {before}"
            yield Misfit((*path, i), expected="milestones in rising order", got=got, mend="sort them, each once")


def _get(tree: Any, *path: str, default: Any = None) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return default
        tree = tree[key]
    return tree


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _step(value: Any) -> Step | None:
    if isinstance(value, Step):
        return value
    try:
        return Step.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
