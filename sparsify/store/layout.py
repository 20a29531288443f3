"""Names inside a run folder, and which of them are no part of the result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sparsify.errors import InputOutputError, UsageError

RESOLVED = "resolved.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.json"
REPORT = "report.html"
STAGE = "stage.json"
# A network's weights, in one form or the other; see `network_weights`.
WEIGHTS, PACKED = "weights.safetensors", "weights.packed"
MODEL = "model"  # where a run keeps the network that came out of it
LOCK = ".lock"
PARTIAL = ".partial"
TEMPORARY = ".tmp-"

# What to do where one of them is damaged.
MANIFEST_MEND = f"remove {MANIFEST} and run the same command again"
STAGE_MEND = "remove the stage's folder and run the same command again"


def walk(root: Path) -> Iterator[str]:
    """Relative POSIX paths of every file that belongs to the result, sorted.

    The lock, half-finished checkpoints and temporaries are left out; symbolic links to folders are not followed.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        here = Path(folder)
        top = here == Path(root)
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY) and not (top and name == PARTIAL)]
        found += [
            (here / name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(TEMPORARY) and not (top and name == LOCK)
        ]
    yield from sorted(found)


def require_run_or_empty(root: Path) -> None:
    """Refuse to make a run of a folder that holds something else.

    Raises:
        UsageError: `root` is a file, or a folder with content and no `resolved.yaml`.
        InputOutputError: `root` cannot be listed.
    """
    root = Path(root)
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{root}: expected a run folder, got a file; choose another with --run-dir") from None
    except OSError as error:
        raise InputOutputError(f"{root}: expected a readable folder, got: {error.strerror or error}") from error
    foreign = [name for name in names if name not in (LOCK, PARTIAL) and not name.startswith(TEMPORARY)]
    if foreign and RESOLVED not in foreign:
        raise UsageError(
            f"{root}: expected an empty or new folder, or a run (with {RESOLVED}), got one that holds {foreign[0]}; "
            "nothing was written there, choose another with --run-dir"
        )


def _raise(error: OSError) -> None:
    raise InputOutputError(f"{error.filename}: expected a readable folder, got: {error.strerror or error}") from error
