"""`Place` and `Fault`: where in a file, or in which `--set`, a recipe is wrong, as one line an editor can parse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparsify.recipe.misfit import Misfit, dotted


@dataclass(frozen=True, slots=True)
class Place:
    """A line and column of a file, both from 1; an override (`--set a=b`) has neither, only its rank among them."""

    file: str
    line: int | None
    column: int | None
    rank: int = 0

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts places of a file by position, and those of overrides after them."""
        return self.rank, self.line or 0, self.column or 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a recipe: `file:line:column: path: expected X, got Y; mend`."""

    place: Place
    path: str
    expected: str
    got: str
    mend: str

    @classmethod
    def of(cls, misfit: Misfit, place: Place) -> Fault:
        """The misfit, found at `place`."""
        return cls(place, dotted(misfit.path), misfit.expected, misfit.got, misfit.mend)

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: expected {self.expected}, got {self.got}; {self.mend}"

    def as_dict(self) -> dict[str, Any]:
        """The fault for `sparsify validate --json`; `line` and `column` are null for an override."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "path": self.path,
            "expected": self.expected,
            "got": self.got,
            "mend": self.mend,
        }
