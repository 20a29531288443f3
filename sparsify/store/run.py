"""A run folder: one resolved recipe, its stages, and the manifest that lists and digests them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsify.errors import InputOutputError, UsageError
from sparsify.store.damage import Damage, check_folder
from sparsify.store.digest import file_sha256
from sparsify.store.layout import MANIFEST, MANIFEST_MEND, PARTIAL, RESOLVED, STAGE, require_run_or_empty, walk
from sparsify.store.resolved import differences, parse_resolved, read_resolved, write_resolved
from sparsify.store.sealed import read_sealed, write_sealed
from sparsify.store.stage import StageRecord, read_stage

GIVEN = "source"
"""The kind of a stage that reads a trained network and makes none."""


@dataclass(frozen=True)
class Run:
    """A run folder and the resolved recipe that it belongs to."""

    root: Path
    recipe: dict[str, Any]

    @classmethod
    def open(cls, root: Path, resolved_yaml: str, recipe: Mapping[str, Any]) -> Run:
        """Make the folder for a recipe, or check that it already belongs to the same one.

        A folder that holds nothing but the network as it was given takes a new recipe. `compute` may differ, since it
        changes no result; the folder keeps the text it was made with.
        Call it while holding the folder's `RunLock`.

        Raises:
            UsageError: The folder holds something else, or a run of another recipe; names the fields that differ.
            CorruptError: The folder's own `resolved.yaml` was changed.
        """
        root = Path(root)
        require_run_or_empty(root)
        path = root / RESOLVED
        wanted: dict[str, Any] = json.loads(json.dumps(recipe))
        if not path.exists() or not _has_stages(root):
            write_resolved(path, resolved_yaml)
            return cls(root, wanted)
        _require_same(root, read_resolved(path), parse_resolved(path, resolved_yaml))
        return cls(root, wanted)

    @classmethod
    def check(cls, root: Path, recipe: Mapping[str, Any]) -> None:
        """Raise what `open` would, and write nothing."""
        require_run_or_empty(root)
        path = Path(root) / RESOLVED
        if path.exists() and _has_stages(root):
            _require_same(root, read_resolved(path), json.loads(json.dumps(recipe)))

    @classmethod
    def load(cls, root: Path) -> Run:
        """Open an existing run to read it.

        Raises:
            InputOutputError: `root` is no run folder.
            CorruptError: Its `resolved.yaml` was changed.
        """
        root = Path(root)
        return cls(root, read_resolved(_require_recipe(root)))

    def stages(self) -> dict[str, StageRecord]:
        """Folder relative to the run -> record, of every finished stage, sorted. Raises `CorruptError`."""
        return stages_of(self.root)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the run is unfinished. Raises `CorruptError`."""
        return read_sealed(self.root / MANIFEST, mend=MANIFEST_MEND)

    def unfinish(self) -> None:
        """Take the manifest away before adding to a finished run, so that a kill leaves it unfinished, not damaged."""
        (self.root / MANIFEST).unlink(missing_ok=True)

    def write_manifest(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Write `manifest.json`, last: every file with its SHA-256 and size, every stage's lineage, and `extra`.

        A stage's files are listed as its own record has them, not hashed anew, so that damage done in between stays
        damage. `extra` holds what only the caller knows, such as `seeds`, `environment` and `versions`.
        """
        stages = self.stages()
        files: dict[str, dict[str, Any]] = {}
        for name in walk(self.root):
            if name != MANIFEST:
                path = self.root / name
                files[name] = {"sha256": file_sha256(path), "size": path.stat().st_size}
        for folder, record in stages.items():
            files |= {f"{folder}/{name}": file for name, file in record.files.items()}
        lineage = {
            folder: {"kind": record.kind, "key": record.key, "digest": record.digest, "parents": record.parents}
            for folder, record in stages.items()
        }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return write_sealed(
            self.root / MANIFEST, {**extra, "format": 1, "created": created, "files": files, "stages": lineage}
        )

    def verify(self) -> list[Damage]:
        """Everything wrong with the folder's files, sorted by path; see `Damage`."""
        return list(check_folder(self.root).damage)


def stages_of(root: Path) -> dict[str, StageRecord]:
    """Folder relative to the run -> record, of every finished stage, sorted; the recipe is not read.

    Raises:
        InputOutputError: `root` is no run folder.
        CorruptError: A record was changed.
    """
    _require_recipe(root)
    found = (Path(name).parent for name in walk(root) if Path(name).name == STAGE)
    records = {folder.as_posix(): read_stage(root / folder) for folder in found}
    return {path: record for path, record in sorted(records.items()) if record is not None}


def _require_recipe(root: Path) -> Path:
    path = root / RESOLVED
    if not path.is_file():
        raise InputOutputError(f"{root}: expected a run folder (with {RESOLVED}), got none")
    return path


def _has_stages(root: Path) -> bool:
    """Whether anything was made, or is half-way; a folder whose first stage failed belongs to nobody yet.

    A network that was only read is nothing made: what is asked of it may have been refused thereafter.
    """
    finished = (root / Path(name).parent for name in walk(root) if Path(name).name == STAGE)
    return (root / PARTIAL).exists() or any(_made(folder) for folder in finished)


def _made(stage: Path) -> bool:
    record = read_stage(stage)
    return record is not None and record.kind != GIVEN


def _require_same(root: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if differing := list(differences(old, new)):
        raise UsageError(
            f"{root}: expected a run of the same recipe, got another: {'; '.join(differing)}; "
            "choose another --run-dir, or give what this one was made with"
        )
