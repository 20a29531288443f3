"""`resolved.yaml`: the recipe with every default and override filled in, sealed by a last line with its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.atomic import write_text

_SEAL = "# sha256 of the lines above: "


def write_resolved(path: Path, text: str) -> None:
    """Write the resolved recipe and its seal, which is a comment to any YAML reader. Raises `InputOutputError`."""
    write_text(path, _sealed(text))


def read_resolved(path: Path) -> dict[str, Any]:
    """The recipe as plain JSON values.

    Raises:
        CorruptError: The file was changed since it was written.
        InputOutputError: It cannot be read.
    """
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    body, seal, _ = text.rpartition(_SEAL)
    if not seal or _sealed(body) != text:
        raise CorruptError(
            f"{path}: changed since it was written: it does not end with the digest of its own lines; {mend_of(path)}"
        )
    return parse_resolved(path, body)


def mend_of(path: Path) -> str:
    """How to go on from a run whose `resolved.yaml` is damaged: the stages do not depend on it."""
    return f"its stages can be kept: run the recipe into another --run-dir with --reuse {path.parent}"


def parse_resolved(path: Path, text: str) -> dict[str, Any]:
    """YAML 1.2 text as plain JSON values; `path` is named in errors. Raises `CorruptError`."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise CorruptError(f"{path}: expected YAML, got: {error}") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{path}: expected a mapping, got {type(value).__name__}")
    return json.loads(json.dumps(value))


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """One phrase for each field in which two recipes differ; `compute` is left out, since it changes no result."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(set(old) | set(new)):
            if where or name != "compute":
                yield from differences(old.get(name), new.get(name), f"{where}.{name}".lstrip("."))
    elif type(old) is not type(new) or old != new:
        yield f"{where}: the folder has {json.dumps(old)}, the recipe says {json.dumps(new)}"


def _sealed(text: str) -> str:
    text = text if text.endswith("\n") else text + "\n"
    return f"{text}{_SEAL}{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}\n"
