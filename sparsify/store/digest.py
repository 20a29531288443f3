"""SHA-256 of values and files: what stage keys, lineage and damage are told by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sparsify.errors import InputOutputError


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII, shortest floats.

    Tuples are written as lists. `1` and `1.0` stay different, as they are in a recipe.

    Raises:
        ValueError: NaN or infinity, which JSON lacks.
        TypeError: A value or key that JSON lacks.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest(value: object) -> str:
    """SHA-256, in hexadecimal, of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256, in hexadecimal, of a file's bytes.

    Raises:
        InputOutputError: The file is absent or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
