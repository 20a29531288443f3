"""Plans kept between processes, told apart by graph, module, version, device and options.

A plan is executable code, so only one that this user's own `sparsify` built is loaded: its manifest is sealed with a
key that lies outside the cache and is readable by that user alone. A plan that came with a copied cache, or was swapped
for another one together with its manifest, is refused. Plan bytes differ from build to build: their SHA-256 tells
damage, never identity.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_state_path

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.atomic import new_folder, write_json
from sparsify.store.digest import canonical_json, digest, file_sha256

_FORMAT = "sparsify-plan-1"
_KEY_BYTES = 32
_PLAN, _MANIFEST = "model.plan", "manifest.json"


@dataclass(frozen=True)
class PlanIdentity:
    """What decides whether a cached plan is the one wanted. `device` is the GPU's name and architecture."""

    graph_sha256: str
    module: str
    module_version: str
    device: str
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """The plan's folder name: SHA-256 of all of it."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Itself as JSON values."""
        return {
            "graph_sha256": self.graph_sha256,
            "module": self.module,
            "module_version": self.module_version,
            "device": self.device,
            "options": self.options,
        }


@dataclass(frozen=True)
class CachedPlan:
    """A plan that may be loaded: its bytes, what its builder reported, and whether it was there already."""

    plan: bytes
    report: dict[str, Any]
    hit: bool


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans, and the file that holds the key their manifests are sealed with."""

    root: Path
    key_path: Path

    @staticmethod
    def of_user() -> PlanCache:
        """This user's cache; the key lies in the state folder, which nobody copies with a cache."""
        return PlanCache(user_cache_path("sparsify") / "plans", user_state_path("sparsify") / "plan.key")

    def get(self, identity: PlanIdentity, build: Callable[[Path], dict[str, Any]]) -> CachedPlan:
        """The plan of `identity`; where there is none, `build` writes it to the path it gets and returns its report.

        Raises:
            CorruptError: If what is there is damaged, or was not built here by this user; the message says what to do.
            InputOutputError: If the cache cannot be written.
        """
        folder = self.root / identity.key
        if folder.is_dir():
            return CachedPlan(*self._load(folder, identity), hit=True)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with new_folder(folder) as temporary:
                report = build(temporary / _PLAN)
                self._seal(temporary, identity, report)
        except UsageError:
            if not folder.is_dir():  # else another process built the same plan meanwhile: take that one
                raise
        return CachedPlan(*self._load(folder, identity), hit=False)

    def _seal(self, folder: Path, identity: PlanIdentity, report: dict[str, Any]) -> None:
        body = {
            "format": _FORMAT,
            "identity": identity.to_json(),
            "plan_sha256": file_sha256(folder / _PLAN),
            "report": report,
        }
        write_json(folder / _MANIFEST, {**body, "seal": self._seal_of(body)})

    def _load(self, folder: Path, identity: PlanIdentity) -> tuple[bytes, dict[str, Any]]:
        body = _read_manifest(folder / _MANIFEST)
        seal = body.pop("seal", None)
        if not isinstance(seal, str) or not hmac.compare_digest(seal, self._seal_of(body)):
            raise CorruptError(
                _refusal(folder / _MANIFEST, "its seal is not ours: it was changed, or built by someone else")
            )
        if body.get("format") != _FORMAT or body.get("identity") != json.loads(canonical_json(identity.to_json())):
            raise CorruptError(_refusal(folder / _MANIFEST, "it describes another plan"))
        try:
            plan = (folder / _PLAN).read_bytes()
        except OSError as error:
            raise CorruptError(_refusal(folder / _PLAN, f"it cannot be read ({error.strerror})")) from error
        if hashlib.sha256(plan).hexdigest() != body["plan_sha256"]:
            raise CorruptError(_refusal(folder / _PLAN, "its SHA-256 is not the one in its manifest"))
        return plan, body["report"]

    def _seal_of(self, body: dict[str, Any]) -> str:
        return hmac.new(self._key(), canonical_json(body), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        """The user's key; made at first use, and readable by the user alone."""
        try:
            if not self.key_path.exists():
                _write_key(self.key_path)
            key = self.key_path.read_bytes()
        except OSError as error:
            mend = "make that folder writable, or set XDG_STATE_HOME"
            raise InputOutputError(
                f"{self.key_path}: the plan cache's key cannot be kept: {error.strerror}; {mend}"
            ) from error
        if len(key) != _KEY_BYTES:
            raise CorruptError(
                f"{self.key_path}: expected {_KEY_BYTES} bytes, got {len(key)}; remove it and {self.root}"
            )
        return key


def _write_key(path: Path) -> None:
    """Link a whole new key under `path`, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(_refusal(path, f"it cannot be read ({error})")) from error
    if not isinstance(body, dict):
        raise CorruptError(_refusal(path, "it is no JSON object"))
    return body


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _refusal(path: Path, why: str) -> str:
    mend = f"remove the folder {path.parent} to build it again"
    return f"{path}: a plan is executable code and this one is refused: {why}; {mend}"
