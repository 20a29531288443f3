"""A recipe's file to a `Recipe` whose model, data and targets exist. Torch-free: only catalogues are read.

The recipe's floor cannot know them, so it takes these checks as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparsify.criteria.catalogue import CRITERIA
from sparsify.data.catalogue import DATASETS, check_source
from sparsify.errors import SparsifyError
from sparsify.models.catalogue import check_fit, check_model
from sparsify.models.source_name import SourceName
from sparsify.models.source_name import check_source as check_model_source
from sparsify.recipe.files import resolve_recipe_path
from sparsify.recipe.load import load_prune_recipe, load_recipe
from sparsify.recipe.misfit import Check, Misfit, near, shown
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import ExportSpec, Recipe
from sparsify.train.task_catalogue import TASKS
from sparsify_export.targets import TARGETS, skips_zeros

_MESSAGE = re.compile(r"expected (?P<expected>.+), got (?P<got>.+?)(?:; (?P<mend>.+))?", re.DOTALL)


def load_checked(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe with every check there is; raises as `load_recipe` does.

    Args:
        recipe: A recipe's file, or the name of a shipped one.
        overrides: `a.b=c` each, as given to `--set`.
    """
    return load_recipe(resolve_recipe_path(str(recipe)), overrides, NAME_CHECKS)


def load_checked_prune(text: str, name: str, overrides: Sequence[str] = ()) -> PruneRecipe:
    """Load a recipe of `sparsify prune` with every check there is; raises as `load_prune_recipe` does."""
    recipe = load_prune_recipe(text, name, overrides, PRUNE_CHECKS)
    if recipe.task != "auto":
        return recipe
    return recipe.model_copy(update={"task": task_of(recipe)})


def task_of(recipe: PruneRecipe) -> str:
    """The task of a recipe that leaves it open: what the model's head does, else what its labels are for.

    Numbers are regressed on; classes are classified. Where the head takes labels and the data brings none, agreement
    with the dense network stands in, and the report says so. Data that cannot be read is taken to have classes: whoever
    reads it says what is wrong.
    """
    head = SourceName.parse(recipe.trained.model).head
    task = head if head in TASKS else "classification"
    if not TASKS[task].labelled:
        return task
    from sparsify.data.labelled import labels_brought  # brings numpy, which `sparsify validate` does without

    try:
        brought = labels_brought(recipe.data.source)
    except (SparsifyError, ValueError):
        return task
    if brought == "none":
        return "agreement"
    return "regression" if brought == "values" and task == "classification" else task


def trained_exists(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether the trained model's source can be meant; nothing is imported."""
    trained = tree.get("trained")
    if not isinstance(trained, Mapping):
        return
    allowed = trained.get("allow_import")
    packages = [str(one) for one in allowed] if isinstance(allowed, (list, tuple)) else []
    check = partial(check_model_source, allow_import=packages)
    yield from _asked(check, trained.get("model"), ("trained", "model"), "see `sparsify ls models`")


def words_exist(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether the criterion and the task are known."""
    removal = tree.get("removal")
    criterion = removal.get("criterion") if isinstance(removal, Mapping) else None
    asked: list[tuple[tuple[str, ...], object, list[str]]] = [
        (("removal", "criterion"), criterion, list(CRITERIA)),
        (("task",), tree.get("task"), ["auto", *TASKS]),
    ]
    for path, word, known in asked:
        if isinstance(word, str) and word not in known:
            mend = near(word, known) or f"see `sparsify ls {'criteria' if 'removal' in path else 'tasks'}`"
            yield Misfit(path, expected=f"one of {', '.join(known)}", got=shown(word), mend=mend)


def solver_fits(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether a criterion that chooses the mask itself, with new weights for it, is left to do so."""
    removal = tree.get("removal")
    entry = CRITERIA.get(str(removal.get("criterion"))) if isinstance(removal, Mapping) else None
    if entry is None or not entry.updates_weights or not isinstance(removal, Mapping):
        return
    schedule = removal.get("schedule")
    at = schedule.get("name", "one-shot") if isinstance(schedule, Mapping) else "one-shot"
    asked = {"shuffled": removal.get("shuffled") is True, f"the schedule {at}": at != "one-shot"}
    asked["the pattern channel"] = str(removal.get("pattern")) == "channel"
    for what, beside in asked.items():
        if beside:
            expected = f"a criterion that scores weights beside {what}"
            got = f"{entry.name}, which gives new weights for its own mask"
            mend = f"take another criterion, or leave {what} out"
            yield Misfit(("removal", "criterion"), expected=expected, got=got, mend=mend)


def criterion_sees(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether a criterion that looks at data is left any; recoveries that do have a number of examples of their own."""
    removal = tree.get("removal")
    entry = CRITERIA.get(str(removal.get("criterion"))) if isinstance(removal, Mapping) else None
    if entry is None or entry.needs == "nothing" or not isinstance(removal, Mapping):
        return
    calibration = removal.get("calibration")
    if isinstance(calibration, int) and calibration == 0:
        expected, mend = f"examples for {entry.name} to look at", "give 512, or take another, such as magnitude"
        yield Misfit(("removal", "calibration"), expected=expected, got="0", mend=mend)


def model_exists(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether the zoo has the model."""
    yield from _asked(check_model, tree.get("model"), ("model",), "see `sparsify ls models`")


def source_exists(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether there is such a data source; whether its files are there is found out when they are read."""
    data = tree.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    yield from _asked(check_source, source, ("data", "source"), "see `sparsify ls datasets`")


def model_fits(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether the model takes the data's images, where their shape is known beforehand."""
    data, model = tree.get("data"), tree.get("model")
    source = data.get("source") if isinstance(data, Mapping) else None
    entry = DATASETS.get(str(source))
    if not isinstance(model, str) or entry is None or entry.input_shape is None or entry.classes is None:
        return
    try:
        check_model(model)
    except ValueError:
        return  # `model_exists` says so
    try:
        check_fit(model, entry.input_shape, entry.classes)
    except ValueError as error:
        got, _, mend = str(error).partition("; ")
        yield Misfit(("model",), expected=f"a model that fits {source}", got=got, mend=mend)


def targets_exist(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether the deployment targets exist; whether they can run here, `sparsify doctor` says."""
    export = tree.get("export")
    targets: Any = export.get("targets") if isinstance(export, Mapping) else None
    if not isinstance(targets, (list, tuple)):
        return
    for i, target in enumerate(targets):
        if isinstance(target, str) and target not in TARGETS:
            mend = near(target, TARGETS) or "see `sparsify ls targets`"
            expected = f"a target among {', '.join(TARGETS)}"
            yield Misfit(("export", "targets", i), expected=expected, got=shown(target), mend=mend)


def sparse_is_heard(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Whether any target takes what is asked of sparse operators."""
    export = tree.get("export")
    if not isinstance(export, Mapping) or export.get("sparse") is None:
        return
    targets: Any = export.get("targets", ExportSpec.model_fields["targets"].default)
    if isinstance(targets, (list, tuple)) and targets and not any(map(skips_zeros, map(str, targets))):
        able = " or ".join(name for name in TARGETS if skips_zeros(name))
        mend = "add it to export.targets, or leave export.sparse out"
        got = ", ".join(map(str, targets))
        yield Misfit(("export", "sparse"), expected=f"the target {able} beside it", got=got, mend=mend)


NAME_CHECKS: tuple[Check, ...] = (model_exists, source_exists, model_fits, targets_exist, sparse_is_heard)
PRUNE_CHECKS: tuple[Check, ...] = (
    source_exists,
    targets_exist,
    sparse_is_heard,
    trained_exists,
    words_exist,
    solver_fits,
    criterion_sees,
)


def _asked(check: Callable[[str], None], value: object, path: tuple[str, ...], mend: str) -> Iterator[Misfit]:
    """What a catalogue's own check has to say of the value, if it is text at all."""
    if not isinstance(value, str):
        return
    try:
        check(value.strip())
    except ValueError as error:
        said = _MESSAGE.fullmatch(str(error))
        if said is None:
            yield Misfit(path, expected="a known name", got=shown(value), mend=str(error))
        else:
            yield Misfit(path, expected=said["expected"], got=said["got"], mend=said["mend"] or mend)
