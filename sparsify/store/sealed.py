"""JSON records that carry their own digest, so that any changed byte of them is seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.atomic import readable_json, write_bytes
from sparsify.store.digest import digest

SEAL = "record_sha256"


def write_sealed(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record with its self-digest added, atomically, and return what was written."""
    body = json.loads(readable_json({name: value for name, value in record.items() if name != SEAL}))
    sealed = {**body, SEAL: digest(body)}
    write_bytes(path, readable_json(sealed))
    return sealed


def read_sealed(path: Path, *, mend: str) -> dict[str, Any] | None:
    """Read a record back, the seal included; None when there is no such file.

    The bytes must be exactly those that `write_sealed` would write: a digest of the parsed values alone would miss a
    blank turned into a tab, or `1e-5` into `1E-5`. `mend` says how to go on without it.

    Raises:
        CorruptError: The file is not such a record, or was changed since.
        InputOutputError: The file cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    try:
        sealed = json.loads(data)
        body = {name: value for name, value in sealed.items() if name != SEAL}
        intact = sealed[SEAL] == digest(body) and readable_json(sealed) == data
    except (ValueError, AttributeError, KeyError, RecursionError):
        intact = False
        sealed = {}
    if not intact:
        raise CorruptError(
            f"{path}: expected a record whose {SEAL} is its own digest, got one that was changed; {mend}"
        )
    return sealed
