"""The criteria by name, importing torch; `catalogue.py` beside it says what each is without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from sparsify.criteria.context import Batch as Batch
from sparsify.criteria.context import Context as Context
from sparsify.criteria.context import Progress, silent
from sparsify.criteria.grasp import grasp as grasp
from sparsify.criteria.lamp import lamp as lamp
from sparsify.criteria.magnitude import magnitude as magnitude
from sparsify.criteria.movement import movement as movement
from sparsify.criteria.random import random as random
from sparsify.criteria.snip import snip as snip
from sparsify.criteria.sparsegpt import sparsegpt as sparsegpt
from sparsify.criteria.synflow import synflow as synflow
from sparsify.criteria.taylor import taylor as taylor
from sparsify.criteria.wanda import wanda as wanda
from sparsify.masks.mask import Mask
from sparsify.recipe.pattern import Pattern

# Scores by parameter, of the parameter's shape, on the CPU; the higher a score, the better the weight is kept.
Criterion = Callable[[Context], dict[str, Tensor]]


class Solver(Protocol):
    """A criterion that chooses the mask itself, and new values for the weights that it keeps."""

    def __call__(
        self,
        model: nn.Module,
        names: Sequence[str],
        batches: Sequence[Batch],
        *,
        pattern: Pattern,
        sparsity: Mapping[str, float],
        progress: Progress = silent,
    ) -> tuple[Mask, dict[str, Tensor]]:
        """The mask over `names`, and all their weights: see `sparsegpt`."""
        ...


CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude,
    "random": random,
    "lamp": lamp,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "movement": movement,
    "taylor": taylor,
    "wanda": wanda,
}

SOLVERS: dict[str, Solver] = {"sparsegpt": sparsegpt}
