"""`Pruning`: a network pruned on a schedule while somebody else trains it; what the callbacks share.

The caller says when training starts, before each step, and when it ends. In between `Masked` holds the mask.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict

from torch import nn

from sparsify.api.choice import check_criterion, default_allocation, score
from sparsify.api.given import batches_of
from sparsify.api.masked import Masked, unwrapped
from sparsify.criteria.catalogue import CRITERIA as ENTRIES
from sparsify.criteria.context import Batch, Context, Loss
from sparsify.criteria.registry import Criterion
from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation, check_sparsity
from sparsify.masks.mask import Mask
from sparsify.masks.overrides import shares_of
from sparsify.models.build import input_axes, prunable
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_spec import AcdcSpec, GradualSpec, IterativeSpec, OneShotSpec
from sparsify.train.mask_moves import Move, Prune, Span, check_moves
from sparsify.train.mask_schedule import mask_schedule
from sparsify.train.removal import Removal

Schedule = OneShotSpec | GradualSpec | IterativeSpec | AcdcSpec

# SET and RigL are not here: they choose what grows from gradients or draws of the loop's own.
SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {"one-shot": OneShotSpec, "gradual": GradualSpec, "iterative": IterativeSpec, "acdc": AcdcSpec}
)


class Options(TypedDict, total=False):
    """The arguments of `Pruning`, which the callbacks hand on; it says what each is."""

    sparsity: float | None
    pattern: str | Pattern
    criterion: str | Criterion
    allocation: Allocation | None
    overrides: Mapping[str, float] | None
    schedule: str | Schedule
    batches: Iterable[Any]
    loss: Loss | None
    seed: int


class Pruning:
    """The moves of one schedule on one network.

    Args:
        sparsity: fraction to remove in the end, of the layers that compete; n:m sets its own.
        pattern: `unstructured`, `n:m` or `block:RxC`.
        criterion: a name, or a function of a `Context` to scores; asked anew at each pruning.
        allocation: how layers share the sparsity; None is `global` where the criterion's scores allow it.
        overrides: glob over layers or their weights -> sparsity of its own; 0 leaves a layer dense.
        schedule: `one-shot`, `gradual` (the cubic of Zhu & Gupta 2017), `iterative`, `acdc`, or the spec of one.
        batches: (inputs, targets) pairs for criteria that look at data.
        loss: (output, target) -> scalar, for criteria that take gradients.
        seed: of what the criterion draws.

    Raises:
        UsageError: an argument makes no sense.
    """

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        pattern: str | Pattern = "unstructured",
        criterion: str | Criterion = "magnitude",
        allocation: Allocation | None = None,
        overrides: Mapping[str, float] | None = None,
        schedule: str | Schedule = "one-shot",
        batches: Iterable[Any] = (),
        loss: Loss | None = None,
        seed: int = 0,
    ) -> None:
        self._pattern = Pattern.of(pattern)
        if self._pattern.kind == "channel":
            raise UsageError("pattern: expected unstructured, n:m or block in training, got channel; prune before it")
        if self._pattern.sparsity is None:
            check_sparsity(sparsity)
        check_criterion(criterion)
        held = batches_of(batches)
        self._check_fed(criterion, held, loss)
        self._sparsity, self._criterion, self._overrides = sparsity, criterion, shares_of("overrides", overrides)
        self._allocation: Allocation = allocation or default_allocation(criterion)
        self._schedule = _schedule(schedule)
        self._batches, self._loss, self._seed = held, loss, seed
        self._moves: dict[int, Move] = {}
        self._masked: Masked | None = None

    @property
    def mask(self) -> Mask | None:
        """What is kept at the moment, and after the end; None before the start."""
        return None if self._masked is None else self._masked.mask

    def start(self, model: nn.Module, *, step: int, total: int, per_epoch: int, mask: Mask | None = None) -> None:
        """Lay the schedule over the training and hold what is held at `step`.

        Args:
            model: the network, wrapped or not.
            step: optimiser steps already taken: more than 0 where a training is resumed.
            total: optimiser steps in all.
            per_epoch: optimiser steps in an epoch, for schedules written in epochs.
            mask: the mask at `step`, where it is known; else a resumed one is found from the weights that are zero.

        Raises:
            UsageError: the training is too short for the schedule, or the network does not fit what was asked.
        """
        self.stop()
        self._model = unwrapped(model)
        names = prunable(self._model)
        self._removal = Removal(
            self._pattern, self._sparsity, self._allocation, self._overrides, input_axes(self._model)
        )
        self._context = Context(self._model, names, self._seed, self._batches, self._loss)
        span = Span(0, total, max(per_epoch, 1), self._removal.target)
        self._moves = check_moves(mask_schedule(self._schedule)(span), span)
        past = [at for at in self._moves if at < step]
        if past and mask is None:
            zeros = Mask({name: weight != 0 for name, weight in self._context.weights.items()})
            mask = self._after(self._moves[max(past)], zeros)
        self._moves = {at: move for at, move in self._moves.items() if at >= step}
        self._masked = Masked(self._model, mask or Mask.dense(self._model, names))
        self._masked.__enter__()

    def before(self, step: int) -> None:
        """Make the last move that is due before `step`, if one is; the same step may be told several times."""
        due = [at for at in self._moves if at <= step]
        if due and self._masked is not None:
            self._masked.update(self._after(self._moves[max(due)], self._masked.mask))
            for at in due:
                del self._moves[at]

    def finish(self) -> None:
        """Let go; the removed weights stay zero. Warns where training ended before the schedule did."""
        held, missing = self._masked, any(isinstance(move, Prune) for move in self._moves.values())
        if held is not None and missing:
            warnings.warn(
                f"training ended before the pruning schedule: asked for sparsity {self._removal.target:.4g} of the "
                f"layers that compete, got {held.mask.sparsity:.4g} of all; train longer, or end the schedule sooner",
                stacklevel=2,
            )
        self.stop()

    def stop(self) -> None:
        """Let go without a word; does nothing where nothing is held."""
        self._moves = {}
        if self._masked is not None and self._masked.held:
            self._masked.__exit__(None, None, None)

    def _after(self, move: Move, mask: Mask) -> Mask:
        """The mask that `move` makes of `mask`."""
        if not isinstance(move, Prune):
            return Mask.dense(self._model, tuple(mask))
        return self._removal.prune(mask, score(self._context, self._criterion, self._removal), move.share)

    @staticmethod
    def _check_fed(criterion: str | Criterion, batches: Sequence[Batch], loss: Loss | None) -> None:
        """Refuse now what the first pruning would, hours later."""
        needs = ENTRIES[criterion].needs if isinstance(criterion, str) else "nothing"
        if needs != "nothing" and not batches:
            raise UsageError(f"criterion {criterion}: expected batches to look at, got none; give batches")
        if needs == "labels" and loss is None:
            raise UsageError(f"criterion {criterion}: expected a loss to take gradients of, got none; give loss")
        if isinstance(criterion, str) and ENTRIES[criterion].updates_weights:
            raise UsageError(
                f"criterion {criterion}: expected one that scores weights, got one that solves for them; "
                "prune with sparsify.prune before training, and hold its mask by Masked"
            )


def _schedule(schedule: str | Schedule) -> Schedule:
    if not isinstance(schedule, str):
        return schedule
    if schedule not in SCHEDULES:
        raise UsageError(f"schedule: expected one of {', '.join(SCHEDULES)}, or the spec of one, got {schedule!r}")
    return SCHEDULES[schedule]()
