"""What a probe is: arms to train, and a conclusion to draw from them. Torch-free; bodies import torch when they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sparsify.lottery.training_spec import TrainingSpec


@dataclass(frozen=True)
class ProbedTicket:
    """A ticket that a probe looks at.

    Attributes:
        level, replicate: which one.
        path: its stage's folder, relative to the run.
        training: the spec it was trained by.
    """

    level: int
    replicate: int
    path: str
    training: TrainingSpec

    @property
    def label(self) -> str:
        """`replicate_0/level_03`: the ticket's own folder below a probe's."""
        return f"replicate_{self.replicate}/level_{self.level:02d}"


@dataclass(frozen=True)
class Arm:
    """One training or measurement of a probe: a stage of its own, so it resumes and runs in parallel.

    Attributes:
        path: folder below the probe's.
        ticket: the ticket it belongs to.
        spec: what determines its outcome.
        seeds: the seeds it draws from.
    """

    path: str
    ticket: ProbedTicket
    spec: BaseModel
    seeds: Mapping[str, int]


@dataclass(frozen=True)
class Probe:
    """One kind of probe.

    Attributes:
        summary: one line for `sparsify ls probes`.
        arms: `(probe's spec, tickets, recipe seed)` -> the arms.
        measure: runs one arm: `(spec as JSON, data, {"ticket": folder, "dense": folder}, out, keeper)`; writes raw
            values into `out`.
        conclude: `(probe's spec as JSON, {role: folder of an arm or ticket}) -> result`: plain values, written as
            `result.json`.
    """

    summary: str
    arms: Callable[[Any, Sequence[ProbedTicket], int], list[Arm]]
    measure: Callable[..., None]
    conclude: Callable[[Mapping[str, Any], Mapping[str, Path]], dict[str, Any]]
