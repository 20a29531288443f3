"""From a criterion's name to a mask: scores compared only where they may be, or a solver's mask and new weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sparsify.criteria.catalogue import CRITERIA as ENTRIES
from sparsify.criteria.context import Context
from sparsify.criteria.registry import CRITERIA, SOLVERS, Criterion
from sparsify.criteria.rows import within_rows
from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation, allocate
from sparsify.masks.mask import Mask
from sparsify.masks.overrides import override_of
from sparsify.masks.plan import Plan, plan, require_some
from sparsify.masks.select import select
from sparsify.masks.shuffled import shuffled
from sparsify.train.removal import Removal


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        mask: what is kept.
        weights: new values of the weights, from a criterion that gives some; else empty.
        skipped: parameter name -> why it was left dense.
    """

    mask: Mask
    weights: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])


def check_criterion(criterion: str | Criterion) -> None:
    """Refuse a name that is no criterion's.

    Raises:
        UsageError: says which there are.
    """
    if isinstance(criterion, str) and criterion not in ENTRIES:
        raise UsageError(
            f"criterion: expected one of {', '.join(ENTRIES)}, or a function of a Context, got {criterion!r}; "
            "see `sparsify ls criteria`"
        )


def criterion_name(criterion: str | Criterion) -> str:
    """Its name, or that of the function that stands for one."""
    return criterion if isinstance(criterion, str) else str(getattr(criterion, "__name__", "a function"))


def default_allocation(criterion: str | Criterion) -> Allocation:
    """`global` where the criterion's scores may be compared across layers, else `uniform`."""
    if not isinstance(criterion, str):
        return "global"
    entry = ENTRIES[criterion]
    return "global" if entry.scope == "network" and not entry.updates_weights else "uniform"


def score(context: Context, criterion: str | Criterion, removal: Removal) -> dict[str, Tensor]:
    """Scores by parameter; those that may be compared within an output row alone are made ranks within it.

    Not for n:m, which compares within a row by itself, nor for channels: a row's ranks sum to the same in every row.

    Raises:
        UsageError: the criterion gives no scores, or lacks the inputs or the loss it needs.
    """
    if not isinstance(criterion, str):
        return dict(criterion(context))
    if criterion in SOLVERS:
        raise UsageError(
            f"criterion {criterion}: expected one that scores weights, got one that solves for them; use it one-shot"
        )
    scores = CRITERIA[criterion](context)
    by_row = ENTRIES[criterion].scope == "row" and removal.pattern.kind not in ("nm", "channel")
    return within_rows(scores, removal.axes) if by_row else scores


def choose(context: Context, removal: Removal, criterion: str | Criterion, *, shuffle: int | None = None) -> Choice:
    """The mask that keeps what the criterion rates highest, as `removal` says; shuffled by a seed, if any.

    What cannot be had is refused before the criterion looks at anything.

    Raises:
        UsageError: see `masks.select.select` and the criterion; one that solves for weights cannot be shuffled.
    """
    if isinstance(criterion, str) and criterion in SOLVERS:
        if shuffle is not None:
            raise UsageError(
                f"shuffled: expected a criterion that scores weights, got {criterion}, whose new weights are right for "
                "its own mask alone; shuffle another criterion's"
            )
        return _solve(context, removal, criterion)
    planned(context.weights, removal)
    found = select(
        _score_asked(context, criterion, removal),
        pattern=removal.pattern,
        sparsity=removal.sparsity,
        allocation=removal.allocation,
        overrides=removal.overrides,
        axes=removal.axes,
    )
    mask = found.mask if shuffle is None else shuffled(found.mask, removal.pattern, shuffle, removal.axes)
    return Choice(mask, {}, found.skipped)


def planned(weights: Mapping[str, Tensor], removal: Removal) -> Plan:
    """What `removal` will do to these weights, by name.

    Raises:
        UsageError: it cannot be had: an override matches nothing, the pattern fits no layer, and the like.
    """
    todo = plan(
        {name: tuple(weight.shape) for name, weight in weights.items()},
        pattern=removal.pattern,
        sparsity=removal.sparsity,
        allocation=removal.allocation,
        overrides=removal.overrides,
        axes=removal.axes,
    )
    require_some(todo, removal.pattern)
    return todo


def _score_asked(context: Context, criterion: str | Criterion, removal: Removal) -> dict[str, Tensor]:
    """Scores of what may be removed; what an override leaves dense is not asked, since some criteria refuse it."""
    asked = tuple(name for name in context.names if override_of(name, removal.overrides) != 0)
    scores = score(replace(context, names=asked), criterion, removal)
    return {name: scores.get(name, torch.zeros_like(weight)) for name, weight in context.weights.items()}


@torch.no_grad()
def apply_choice(model: nn.Module, choice: Choice) -> None:
    """Put what was chosen into `model`, in place: new weights where there are some, exact zeros where removed."""
    parameters = dict(model.named_parameters())
    for name, weight in choice.weights.items():
        parameters[name].copy_(weight)
    choice.mask.apply_(model)


def _solve(context: Context, removal: Removal, criterion: str) -> Choice:
    """A solver takes each layer's sparsity; layers that the pattern does not fit stay as they are."""
    pattern = removal.pattern
    if removal.allocation == "global" and pattern.kind != "nm":
        raise UsageError(
            f"criterion {criterion}: expected allocation uniform, erk or searched, since layers do not compete in it, "
            "got global; leave the allocation out for uniform"
        )
    weights = context.weights
    todo = planned(weights, removal)
    if pattern.sparsity is not None:
        shares = dict.fromkeys(todo.names, pattern.sparsity)
    else:
        how = "uniform" if removal.allocation == "global" else removal.allocation
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        every = allocate(shapes, removal.target, how, removal.overrides)
        shares = {name: every[name] for name in todo.names}
    mask, solved = SOLVERS[criterion](
        context.model, todo.names, context.batches, pattern=pattern, sparsity=shares, progress=context.progress
    )
    whole = Mask.dense(context.model, tuple(weights))
    return Choice(Mask(dict(whole) | dict(mask)), solved, todo.skipped)


def only(removal: Removal, name: str, sparsity: float) -> Removal:
    """The removal of `sparsity` from one parameter alone."""
    axes = {name: removal.axes[name]} if name in removal.axes else {}
    own = None if removal.pattern.sparsity is not None else sparsity
    return replace(removal, sparsity=own, allocation="uniform", overrides={}, axes=axes)
