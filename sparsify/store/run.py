"""A run folder: one resolved recipe, its stages, and the manifest that lists and digests them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.atomic import write_text
from sparsify.store.damage import Damage, find_damage
from sparsify.store.digest import file_sha256
from sparsify.store.layout import MANIFEST, RESOLVED, STAGE, require_run_or_empty, walk
from sparsify.store.sealed import read_sealed, write_sealed
from sparsify.store.stage import StageRecord, read_stage


@dataclass(frozen=True)
class Run:
    """A run folder and the resolved recipe that it belongs to."""

    root: Path
    recipe: dict[str, Any]

    @classmethod
    def open(cls, root: Path, resolved_yaml: str, recipe: Mapping[str, Any]) -> Run:
        """Make the folder for a recipe, or check that it already belongs to the same one.

        `compute` may differ, since it changes no result; the folder keeps the text it was made with.
        Call it while holding the folder's `RunLock`.

        Raises:
            UsageError: The folder holds something else, or a run of another recipe; names the fields that differ.
            CorruptError: The folder's own `resolved.yaml` was changed.
        """
        root = Path(root)
        require_run_or_empty(root)
        path = root / RESOLVED
        wanted: dict[str, Any] = json.loads(json.dumps(recipe))
        if not path.exists():
            write_text(path, _sealed_text(resolved_yaml))
            return cls(root, wanted)
        differing = list(_differences(_read_resolved(path), _parse(path, resolved_yaml)))
        if differing:
            raise UsageError(
                f"{root}: expected a run of the same recipe, got another: {'; '.join(differing)}; "
                "choose another --run-dir, or drop the override"
            )
        return cls(root, wanted)

    @classmethod
    def load(cls, root: Path) -> Run:
        """Open an existing run to read it.

        Raises:
            InputOutputError: `root` is no run folder.
            CorruptError: Its `resolved.yaml` was changed.
        """
        root = Path(root)
        path = root / RESOLVED
        if not path.is_file():
            raise InputOutputError(f"{root}: expected a run folder (with {RESOLVED}), got none")
        return cls(root, _read_resolved(path))

    def stages(self) -> dict[str, StageRecord]:
        """Folder relative to the run -> record, of every finished stage, sorted. Raises `CorruptError`."""
        found = (Path(name).parent for name in walk(self.root) if Path(name).name == STAGE)
        records = {folder.as_posix(): read_stage(self.root / folder) for folder in found}
        return {path: record for path, record in sorted(records.items()) if record is not None}

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the run is unfinished. Raises `CorruptError`."""
        return read_sealed(self.root / MANIFEST)

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
        return find_damage(self.root)


_SEAL = "# sha256 of the lines above: "


def _sealed_text(text: str) -> str:
    text = text if text.endswith("\n") else text + "\n"
    return f"{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _read_resolved(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    body, seal, _ = text.rpartition(_SEAL)
    if not seal or _sealed_text(body) != text:
        raise CorruptError(f"{path}: changed since it was written: it does not end with the digest of its own lines")
    return _parse(path, body)


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise CorruptError(f"{path}: expected YAML, got: {error}") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{path}: expected a mapping, got {type(value).__name__}")
    return json.loads(json.dumps(value))


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """`field: this run has OLD, the recipe says NEW`, for every leaf that differs; `compute` is left out."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(set(old) | set(new)):
            if where or name != "compute":
                yield from _differences(old.get(name), new.get(name), f"{where}.{name}".lstrip("."))
    elif old != new:
        yield f"{where}: the folder has {json.dumps(old)}, the recipe says {json.dumps(new)}"
