"""Who is told how a run goes: bars on a terminal, plain lines elsewhere, silence for `--json`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Protocol

_LINE_SECONDS = 15.0


class Observer(Protocol):
    """Told what happens to the stages of a run."""

    def planned(self, paths: Sequence[str], *, more: bool | None = None) -> None:
        """These stages are to be complete; `more`: a search may add others (None: as it was)."""
        ...

    def started(self, path: str) -> None:
        """A worker has begun this stage."""
        ...

    def progress(self, path: str, step: int, total: int, note: str) -> None:
        """The stage is this far."""
        ...

    def finished(self, path: str, *, cached: bool, seconds: float) -> None:
        """The stage is complete."""
        ...

    def warned(self, text: str) -> None:
        """Something that is asked for cannot be expected."""
        ...

    def noted(self, text: str) -> None:
        """Something was decided that the recipe left open."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class Silent:
    """Says nothing."""

    def planned(self, paths: Sequence[str], *, more: bool | None = None) -> None:
        """Nothing."""

    def started(self, path: str) -> None:
        """Nothing."""

    def progress(self, path: str, step: int, total: int, note: str) -> None:
        """Nothing."""

    def finished(self, path: str, *, cached: bool, seconds: float) -> None:
        """Nothing."""

    def warned(self, text: str) -> None:
        """Nothing."""

    def noted(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Count:
    """How far a run is. A stage counts once, however often a search comes back to it."""

    def __init__(self) -> None:
        self._planned: set[str] = set()
        self._done: dict[str, bool] = {}
        self._more = False

    def plan(self, paths: Sequence[str], more: bool | None) -> None:
        self._planned.update(paths)
        self._more = self._more if more is None else more

    def finish(self, path: str, *, cached: bool) -> None:
        self._done.setdefault(path, cached)

    @property
    def done(self) -> int:
        return len(self._done)

    @property
    def total(self) -> int:
        return len(self._planned)

    @property
    def sign(self) -> str:
        """`+` where more may follow."""
        return "+" if self._more else ""

    @property
    def cached(self) -> str:
        """How much was complete already; empty for nothing."""
        cached = sum(self._done.values())
        return f"{cached} of {self.total} stages were complete already" if cached else ""


class Lines:
    """Plain lines on standard error: a line a finished stage, and one now and then for a long one."""

    def __init__(self) -> None:
        self._count = _Count()
        self._told = time.monotonic()

    def planned(self, paths: Sequence[str], *, more: bool | None = None) -> None:
        """Count them."""
        self._count.plan(paths, more)

    def started(self, path: str) -> None:
        """Nothing: the line comes when it is finished."""

    def progress(self, path: str, step: int, total: int, note: str) -> None:
        """A line, every so often."""
        if time.monotonic() - self._told >= _LINE_SECONDS:
            self._line(", ".join(filter(None, (f"{path}: step {step} of {total}", note))))

    def finished(self, path: str, *, cached: bool, seconds: float) -> None:
        """A line for what was run; what was complete already is only counted."""
        count = self._count
        count.finish(path, cached=cached)
        if not cached:
            self._line(f"[{count.done}/{count.total}{count.sign}] {path} ({seconds:.1f} s)")

    def warned(self, text: str) -> None:
        """A line."""
        self._line(f"warning: {text}")

    def noted(self, text: str) -> None:
        """A line."""
        self._line(text)

    def close(self) -> None:
        """How much was complete already."""
        if self._count.cached:
            self._line(self._count.cached)

    def _line(self, text: str) -> None:
        self._told = time.monotonic()
        print(text, file=sys.stderr, flush=True)


class Bars:
    """One bar for the whole run and one for each stage in progress, on a terminal's standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._all = self._bars.add_task("stages", total=0, note="")
        self._count = _Count()
        self._tasks: dict[str, int] = {}

    def planned(self, paths: Sequence[str], *, more: bool | None = None) -> None:
        """Lengthen the whole bar."""
        self._count.plan(paths, more)
        self._bars.update(self._all, total=self._count.total, note=self._count.sign)  # pyright: ignore[reportArgumentType]

    def started(self, path: str) -> None:
        """A bar of its own."""
        self._tasks[path] = self._bars.add_task(path, total=None, note="")

    def progress(self, path: str, step: int, total: int, note: str) -> None:
        """Move its bar."""
        self._bars.update(self._tasks[path], completed=step, total=total, note=note)  # pyright: ignore[reportArgumentType]

    def finished(self, path: str, *, cached: bool, seconds: float) -> None:
        """Take its bar away and move the whole one."""
        self._count.finish(path, cached=cached)
        self._bars.update(self._all, completed=self._count.done)  # pyright: ignore[reportArgumentType]
        if path in self._tasks:
            self._bars.remove_task(self._tasks.pop(path))  # pyright: ignore[reportArgumentType]

    def warned(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(f"warning: {text}", style="yellow", highlight=False, markup=False)

    def noted(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()
        if self._count.cached:
            self._bars.console.print(self._count.cached, style="dim")


def observer_for_people(*, json: bool) -> Observer:
    """Silence with `--json`, bars where standard error is a terminal, plain lines elsewhere."""
    if json:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()
