"""Fetch what a recipe's data lacks before any work begins, showing how far it is. No torch here."""

from __future__ import annotations

import sys

from sparsify.data.catalogue import parse_source
from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec


def prepare(spec: DataSpec, *, quiet: bool = False) -> None:
    """Download the data if it is one that can be and is not on this machine.

    Call it once before processes are started that each `load`: a bar is drawn on stderr if that is a terminal, one line
    a file otherwise, and nothing if `quiet`.

    Raises:
        UsageError: The source is not one.
        InputOutputError: The data is not here and cannot be had; the message says how to get it.
        CorruptError: The server gave something else.
    """
    try:
        name, _ = parse_source(spec.source)
    except ValueError as error:
        raise UsageError(f"data.source: {error}") from None
    if name != "fashion-mnist":
        return
    from sparsify.data.fashion_mnist import find, locate

    if find():
        return
    if quiet:
        locate()
    elif sys.stderr.isatty():
        _with_bars()
    else:
        locate(_Lines())


class _Lines:
    """Progress as one plain line a file."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def __call__(self, name: str, _done: int, total: int | None) -> None:
        if name not in self._begun:
            self._begun.add(name)
            size = "size unknown" if total is None else f"{total / 1e6:.1f} MB"
            print(f"downloading {name} ({size})", file=sys.stderr, flush=True)


def _with_bars() -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from sparsify.data.fashion_mnist import locate

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        locate(show)
