"""The exception tree, and the exit code of each.

    SparsifyError                 1  a bug of ours, unless a subclass says otherwise
    ├── UsageError                2  the command or call cannot mean anything
    ├── RecipeError               3  the recipe is invalid; carries every fault
    ├── UnavailableError          6  a runtime, device or extra is missing here
    ├── CorruptError              7  an artifact is damaged or not to be trusted
    ├── BusyError                 8  another process holds the run folder
    ├── InputOutputError          9  no such data, disk full, no permission
    ├── DivergedError            10  a loss or weight stopped being finite
    └── Preempted                75  stopped by a signal, resumable by the same command

Exit codes 4 (gate failed) and 5 (inconclusive) are answers, not errors: verbs return them.
Every message says what was expected, what came, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol


class SparsifyError(Exception):
    """Root of everything this library raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(SparsifyError):
    """The command or call cannot mean anything as given."""

    exit_code = 2


class Fault(Protocol):
    """One thing wrong with a recipe; `str()` of it is one line a person can act on."""

    def __str__(self) -> str: ...


class RecipeError(SparsifyError):
    """The recipe is invalid. `faults` holds every fault, in file order."""

    exit_code = 3

    def __init__(self, faults: Sequence[Fault | str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UnavailableError(SparsifyError):
    """A runtime, device or optional dependency is missing; the message says what would make it available."""

    exit_code = 6


class CorruptError(SparsifyError):
    """An artifact is damaged, or could run code and is refused. The message names the file."""

    exit_code = 7


class BusyError(SparsifyError):
    """Another process holds the run folder; the message names its host and pid."""

    exit_code = 8


class InputOutputError(SparsifyError):
    """Reading or writing failed: no such data, disk full, no permission."""

    exit_code = 9


class DivergedError(SparsifyError):
    """Training produced a loss or weight that is not finite; the message names the step and the layer."""

    exit_code = 10


class Preempted(SparsifyError):
    """Stopped by a signal after saving what was done. The same command resumes."""

    exit_code = 75
