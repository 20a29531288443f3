"""The mask schedules by name, and what a training needs to move a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from sparsify.criteria.context import Batch, Context, Loss
from sparsify.criteria.registry import Criterion
from sparsify.recipe.prune_spec import AcdcSpec, GradualSpec, IterativeSpec, OneShotSpec, RiglSpec, SetSpec
from sparsify.seeds import derive_seed
from sparsify.train.mask_moves import MaskSchedule as MaskSchedule
from sparsify.train.mask_moves import Move, Span
from sparsify.train.mask_schedules.acdc import acdc
from sparsify.train.mask_schedules.gradual import gradual
from sparsify.train.mask_schedules.iterative import iterative
from sparsify.train.mask_schedules.one_shot import one_shot
from sparsify.train.mask_schedules.rigl import rigl
from sparsify.train.mask_schedules.set import evolve
from sparsify.train.removal import Removal

# name -> (the spec of that name, span) -> moves
MASK_SCHEDULES: MappingProxyType[str, Callable[[Any, Span], dict[int, Move]]] = MappingProxyType(
    {
        "one-shot": one_shot,
        "iterative": iterative,
        "gradual": gradual,
        "set": evolve,
        "rigl": rigl,
        "acdc": acdc,
    }
)

# (model, names, step) -> scores by parameter name; the lowest are removed. A function of its arguments alone.
Scorer = Callable[[nn.Module, tuple[str, ...], int], Mapping[str, Tensor]]


def mask_schedule(
    spec: OneShotSpec | IterativeSpec | GradualSpec | SetSpec | RiglSpec | AcdcSpec,
) -> MaskSchedule:
    """The schedule that `spec` describes."""
    build = MASK_SCHEDULES[spec.name]
    return lambda span: build(spec, span)


def by_magnitude(model: nn.Module, names: tuple[str, ...], step: int) -> dict[str, Tensor]:
    """Absolute values of the weights, on the CPU."""
    del step
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().abs().cpu() for name in names}


def by_criterion(criterion: Criterion, batches: Sequence[Batch], loss: Loss | None, seed: int) -> Scorer:
    """The scores of a criterion, on the same calibration batches at each pruning; its draws are seeded by the step."""

    def scores(model: nn.Module, names: tuple[str, ...], step: int) -> dict[str, Tensor]:
        return criterion(Context(model, names, derive_seed(seed, "scores", step), batches, loss))

    return scores


@dataclass(frozen=True)
class Masking:
    """A mask that moves while a network trains.

    Attributes:
        names: parameters that are pruned.
        schedule: when the mask moves.
        removal: what is removed in the end.
        scores: what is removed first; called at each pruning.
    """

    names: tuple[str, ...]
    schedule: MaskSchedule
    removal: Removal
    scores: Scorer = by_magnitude
