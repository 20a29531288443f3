"""Finding every changed, missing or unlisted file of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.digest import file_sha256
from sparsify.store.layout import MANIFEST, MANIFEST_MEND, RESOLVED, STAGE, walk
from sparsify.store.resolved import read_resolved
from sparsify.store.sealed import read_sealed
from sparsify.store.stage import StageRecord, read_stage

Problem = Literal["changed", "missing", "unreadable", "stale", "unlisted"]


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file.

    Attributes:
        path: The file, relative to the folder that was checked.
        problem: `changed` bytes; `missing`; `unreadable`; `stale`, made from a parent that is another now; `unlisted`,
            covered by no digest.
        detail: What was expected and what came.
    """

    path: str
    problem: Problem
    detail: str

    @property
    def harmless(self) -> bool:
        """Whether it is a warning only: nothing that was written was lost."""
        return self.problem == "unlisted"


@dataclass(frozen=True)
class Checked:
    """The outcome of checking a folder.

    Attributes:
        finished: Whether a manifest, which is written last, is there.
        stages: Number of stages with an intact record.
        files: Number of files whose digest was compared.
        damage: Everything found, sorted by path.
    """

    finished: bool
    stages: int
    files: int
    damage: tuple[Damage, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing worse than an unlisted file was found."""
        return all(found.harmless for found in self.damage)


def check_folder(root: Path) -> Checked:
    """Hash everything under a run folder, or under one stage of it, against what was recorded.

    A finished run is held against its manifest. An unfinished one, or one whose manifest is damaged, is held against
    each stage's own record and the seal of `resolved.yaml`.

    Raises:
        InputOutputError: The folder cannot be listed.
    """
    root = Path(root)
    present = set(walk(root))
    found: dict[str, Damage] = {}
    listed = _listed_in_manifest(root, found)
    records = _stage_records(root, present, found)
    _check_resolved(root, present, found)
    sealed = present & {MANIFEST, RESOLVED, *_record_names(present)}
    covered = present
    if listed is None:
        listed = {_join(folder, name): file for folder in records for name, file in records[folder].files.items()}
        covered = {name for name in present if any(up.as_posix() in records for up in Path(name).parents)}
    for name, file in listed.items():
        if name not in found and (damage := _compare(root, name, file, present)):
            found[name] = damage
    for name in covered - set(listed) - sealed:
        found.setdefault(name, Damage(name, "unlisted", "no digest covers it; remove it if it is not yours"))
    _check_lineage(records, found)
    return Checked(
        finished=(root / MANIFEST).exists(),
        stages=len(records),
        files=len(sealed | (set(listed) & present)),
        damage=tuple(found[name] for name in sorted(found)),
    )


def _listed_in_manifest(root: Path, found: dict[str, Damage]) -> Mapping[str, Mapping[str, Any]] | None:
    """The manifest's files, or None when there is no manifest to be trusted."""
    try:
        manifest = read_sealed(root / MANIFEST, mend=MANIFEST_MEND)
    except CorruptError:
        found[MANIFEST] = Damage(MANIFEST, "changed", "it does not match its own digest")
        return None
    except InputOutputError as error:
        found[MANIFEST] = Damage(MANIFEST, "unreadable", str(error))
        return None
    return None if manifest is None else manifest.get("files", {})


def _stage_records(root: Path, present: set[str], found: dict[str, Damage]) -> dict[str, StageRecord]:
    """Folder -> record, of every stage whose record is intact."""
    records: dict[str, StageRecord] = {}
    for name in _record_names(present):
        folder = Path(name).parent
        try:
            record = read_stage(root / folder)
        except CorruptError:
            found[name] = Damage(name, "changed", "it does not match its own digest")
        except InputOutputError as error:
            found[name] = Damage(name, "unreadable", str(error))
        else:
            if record is not None:
                records[folder.as_posix()] = record
    return records


def _check_resolved(root: Path, present: set[str], found: dict[str, Damage]) -> None:
    if RESOLVED not in present:
        return
    try:
        read_resolved(root / RESOLVED)
    except CorruptError:
        found[RESOLVED] = Damage(RESOLVED, "changed", "it does not match the digest in its last line")
    except InputOutputError as error:
        found[RESOLVED] = Damage(RESOLVED, "unreadable", str(error))


def _compare(root: Path, name: str, file: Mapping[str, Any], present: set[str]) -> Damage | None:
    if name not in present:
        return Damage(name, "missing", f"expected {file['size']} bytes, got no file")
    try:
        size = (root / name).stat().st_size
        if size != file["size"]:
            return Damage(name, "changed", f"expected {file['size']} bytes, got {size}")
        actual = file_sha256(root / name)
    except (OSError, InputOutputError) as error:
        return Damage(name, "unreadable", str(error))
    if actual != file["sha256"]:
        return Damage(name, "changed", f"expected sha256 {file['sha256'][:16]}..., got {actual[:16]}...")
    return None


def _check_lineage(records: Mapping[str, StageRecord], found: dict[str, Damage]) -> None:
    """A stage is stale when a parent inside the same folder has another digest than the one it was made from."""
    for folder, record in records.items():
        name = _join(folder, STAGE)
        for role, parent in sorted(record.parents.items()):
            actual = records.get(parent["path"])
            if actual is not None and actual.digest != parent["digest"]:
                detail = (
                    f"made from {role} {parent['path']} with digest {parent['digest'][:16]}..., which is another now"
                )
                found.setdefault(name, Damage(name, "stale", detail))


def _record_names(present: set[str]) -> list[str]:
    return sorted(name for name in present if Path(name).name == STAGE)


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"
