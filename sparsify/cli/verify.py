"""`sparsify verify`: hash every file of a run folder against what was recorded when it was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.layout import MANIFEST, MANIFEST_MEND, METRICS, REPORT, RESOLVED, STAGE, STAGE_MEND

if TYPE_CHECKING:
    from sparsify.store.damage import Checked


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or one stage of it.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check every digest; exit 0 when intact (an unfinished run too), 7 with the damaged files named."""
    from sparsify.store.damage import check_folder

    if not any((run / name).exists() for name in (RESOLVED, MANIFEST, STAGE)):
        raise InputOutputError(f"{run}: expected a run folder (with {RESOLVED}) or a stage of one, got neither")
    checked = check_folder(run)
    typer.echo(json.dumps(_document(run, checked)) if as_json else _text(run, checked))
    if not checked.intact:
        raise typer.Exit(CorruptError.exit_code)


def _document(run: Path, checked: Checked) -> dict[str, object]:
    return {
        "run": str(run),
        "intact": checked.intact,
        "finished": checked.finished,
        "stages": checked.stages,
        "files": checked.files,
        "damage": [{**asdict(found), "harmless": found.harmless} for found in checked.damage],
    }


def _mends(run: Path, checked: Checked) -> list[str]:
    """What to do about the damage, each thing once: what is written last is made from the rest."""
    from sparsify.store.resolved import mend_of

    damaged = {found.path for found in checked.damage if not found.harmless}
    mends = [mend_of(run / RESOLVED)] if RESOLVED in damaged else []
    if damaged & {MANIFEST, METRICS, REPORT}:
        mends.append(MANIFEST_MEND)
    if damaged - {RESOLVED, MANIFEST, METRICS, REPORT}:
        mends.append(STAGE_MEND)
    return mends


def _text(run: Path, checked: Checked) -> str:
    lines = [
        f"{'warning' if found.harmless else 'DAMAGED'}: {run / found.path}: {found.problem}: {found.detail}"
        for found in checked.damage
    ]
    state = "" if checked.finished or (run / STAGE).exists() else "; the run is unfinished, the same command resumes it"
    bad = sum(not found.harmless for found in checked.damage)
    verdict = "intact" if checked.intact else f"{bad} damaged: {'; '.join(_mends(run, checked))}"
    return "\n".join([*lines, f"{run}: {checked.files} files checked, stages: {checked.stages}, {verdict}{state}"])
