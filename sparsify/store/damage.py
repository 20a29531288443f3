"""Finding every changed, missing or unlisted file of a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Damage:
    """One file, relative to the run, and what is wrong with it. `unlisted` is a warning: nothing was lost."""

    path: str
    problem: Literal["changed", "missing", "unlisted"]
    detail: str


def find_damage(root: Path) -> list[Damage]:
    """Every damaged, missing or unlisted file under a run folder, sorted by path."""
    raise NotImplementedError(root)
