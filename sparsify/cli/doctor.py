"""`sparsify doctor`: what can run on this machine, and why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sparsify.cli.console import console
from sparsify.errors import UnavailableError

if TYPE_CHECKING:
    from rich.table import Table

    from sparsify.pipeline.doctor import Diagnosis

_MARKS = {"ok": ("✓", "green"), "caution": ("!", "yellow"), "missing": ("–", "dim"), "not usable": ("✗", "red")}


def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Look at everything that training, export and timing need; exit 6 only where nothing can work."""
    from sparsify.pipeline.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(diagnosis.to_json()))
    else:
        _show(diagnosis)
    if not diagnosis.works:
        raise typer.Exit(UnavailableError.exit_code)


def _show(diagnosis: Diagnosis) -> None:
    out = console()
    out.print(_checks(diagnosis))
    out.print(_targets(diagnosis))
    if not diagnosis.works:
        out.print("sparsify cannot work here: mend what is marked ✗ or – under base.", style="bold red")


def _checks(diagnosis: Diagnosis) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What is here", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=False)
    for heading in ("", "what", "state", "detail"):
        table.add_column(heading, no_wrap=heading in ("", "state"), overflow="fold")
    group = ""
    for check in diagnosis.checks:
        if group and check.group != group:
            table.add_section()
        group = check.group
        mark, style = _MARKS[check.state]
        detail = Text(check.detail)
        if check.mend:
            detail.append(f"\n→ {check.mend}", style="cyan")
        table.add_row(Text(mark, style), Text(check.name, "bold"), Text(check.state, style), detail)
    return table


def _targets(diagnosis: Diagnosis) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Targets", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=False)
    for heading in ("target", "runs here", "exports here", "why not"):
        table.add_column(heading, overflow="fold")
    for target in diagnosis.targets:
        marks = [Text(*_MARKS["ok" if yes else "not usable"]) for yes in (target.usable, target.exportable)]
        table.add_row(Text(target.name, "bold"), *marks, Text(target.reason))
    return table
