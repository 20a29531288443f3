"""From units to a history: the JSON that says what is cut, before anything is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from torch import nn

from sparsify.channels.group import Group, Selection, removed_slices
from sparsify.models.history import History


def history_of(model: nn.Module, groups: Iterable[Group], selection: Selection) -> History:
    """What `replay` does to a module like `model` so that the selected units are gone from it."""
    groups = [group for group in groups if selection.get(group.root)]
    slices = removed_slices(groups, selection)
    history: History = [
        {"tensor": tensor, "axis": axis, "removed": list(removed)} for (tensor, axis), removed in slices.items()
    ]
    gone: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for group in groups:
        for resize in group.resizes:
            gone[resize.module, resize.attribute].update(*(resize.places[unit] for unit in selection[group.root]))
    return history + [
        {"module": module, "attribute": attribute, "value": _less(model, module, attribute, len(counted))}
        for (module, attribute), counted in gone.items()
        if counted
    ]


def _less(model: nn.Module, module: str, attribute: str, fall: int) -> int | list[int]:
    """The count after the fall; of a shape, the last size falls."""
    before = getattr(model.get_submodule(module), attribute)
    return [*before[:-1], before[-1] - fall] if isinstance(before, tuple) else before - fall
