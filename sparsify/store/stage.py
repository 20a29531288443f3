"""A stage: a folder of files and, written last, `stage.json`, which says what made them and what they digest to."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError
from sparsify.store.atomic import new_folder
from sparsify.store.digest import digest, file_sha256
from sparsify.store.layout import STAGE, STAGE_MEND, walk
from sparsify.store.sealed import SEAL, read_sealed, write_sealed


@dataclass(frozen=True)
class StageRecord:
    """What `stage.json` holds.

    Attributes:
        kind: What was done, such as `dense` or `ticket`.
        key: Digest of everything that determines the output; equal keys mean that it need not be run again.
        spec: The slice of the recipe that it followed, and what is needed to read the folder by itself.
        parents: Role -> `{"path": folder relative to the run, "digest": its stage digest}`.
        files: Path relative to the folder -> `{"sha256": hexadecimal, "size": bytes}`.
        digest: Digest of the files' SHA-256 alone, so that two runs of one stage can be compared.
        seeds: Name -> seed.
        versions: Distribution -> version.
        elapsed_s: Seconds from the folder's opening to its hashing.
        created: When, UTC, ISO 8601.
        record_sha256: Digest of all of the above.
    """

    kind: str
    key: str
    spec: dict[str, Any]
    parents: dict[str, dict[str, str]]
    files: dict[str, dict[str, Any]]
    digest: str
    seeds: dict[str, int]
    versions: dict[str, str]
    elapsed_s: float
    created: str
    record_sha256: str

    def identity(self) -> str:
        """The key that a stage of this record has today: `key`, or what a release that wrote nulls into it meant."""
        inputs = {role: parent["digest"] for role, parent in self.parents.items()}
        return stage_key(self.kind, self.spec, inputs, self.versions)


def stage_key(kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Digest of what determines a stage's output: its recipe slice, its inputs' digests, the versions that matter.

    A field that is null does not count: so a release may add a field, null where it is not asked for, and older runs
    go on.
    """
    said = _without_nulls(dict(spec))
    return digest({"kind": kind, "spec": said, "inputs": dict(inputs), "versions": dict(versions)})


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def read_stage(folder: Path) -> StageRecord | None:
    """A stage's record, or None where there is no finished stage. The files are not hashed: see `check_stage`.

    Raises:
        CorruptError: `stage.json` is unreadable or was changed.
    """
    path = Path(folder) / STAGE
    record = read_sealed(path, mend=STAGE_MEND)
    if record is None:
        return None
    odd = set(record) ^ {field.name for field in fields(StageRecord)}
    odd |= {
        name for name in ("spec", "parents", "files", "seeds", "versions") if not isinstance(record.get(name), dict)
    }
    if odd:
        raise CorruptError(f"{path}: expected the fields of a stage record, got a wrong {sorted(odd)[0]}; {STAGE_MEND}")
    return StageRecord(**record)


@contextmanager
def write_stage(
    final: Path,
    *,
    kind: str,
    key: str,
    spec: Mapping[str, Any],
    parents: Mapping[str, Mapping[str, str]],
    seeds: Mapping[str, int],
    versions: Mapping[str, str],
    replace: bool = False,
) -> Generator[Path]:
    """A stage that appears whole under `final`, or not at all: yields a temporary folder to write the files into.

    Raises:
        UsageError: `final` exists and `replace` is false; the caller decides whether another key's output may go.
        InputOutputError: Disk full, no permission and the like; nothing was replaced.
    """
    started = time.perf_counter()
    with new_folder(final, replace=replace) as folder:
        yield folder
        files = hash_files(folder)
        record = StageRecord(
            kind=kind,
            key=key,
            spec=dict(spec),
            parents={role: dict(parent) for role, parent in parents.items()},
            files=files,
            digest=files_digest(files),
            seeds=dict(seeds),
            versions=dict(versions),
            elapsed_s=round(time.perf_counter() - started, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            record_sha256="",
        )
        write_sealed(folder / STAGE, {name: value for name, value in asdict(record).items() if name != SEAL})


def check_stage(folder: Path, record: StageRecord) -> None:
    """Hash a stage's files against its record.

    Raises:
        CorruptError: Names the first file, in order of path, that was changed, is missing or is not listed.
    """
    present = set(walk(folder)) - {STAGE}
    for name in sorted(present | set(record.files)):
        path = Path(folder) / name
        if name not in record.files:
            raise CorruptError(f"{path}: not listed in {STAGE}; remove it, or remove the folder to make it again")
        if name not in present:
            raise CorruptError(f"{path}: missing; remove the folder to make it again")
        if file_sha256(path) != record.files[name]["sha256"]:
            raise CorruptError(f"{path}: changed since it was written; remove the folder to make it again")


def hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Path relative to the folder -> SHA-256 and size in bytes, of every file but `stage.json`."""
    return {
        name: {"sha256": file_sha256(Path(folder) / name), "size": (Path(folder) / name).stat().st_size}
        for name in walk(folder)
        if name != STAGE
    }


def files_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for a set of files: their names and SHA-256, nothing that differs between two equal runs."""
    return digest({name: file["sha256"] for name, file in files.items()})
