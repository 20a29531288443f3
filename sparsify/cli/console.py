"""Where verbs print: as wide as the terminal, and wide enough to wrap nothing where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_A_FILE = 200


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on standard output, or on standard error; nothing in it is read as markup or coloured by guess."""
    from rich.console import Console

    watched = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, quiet=quiet, width=None if watched else WIDTH_OF_A_FILE, highlight=False, markup=False
    )
