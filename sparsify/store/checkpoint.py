"""A half-finished training, in one file that is replaced as a whole and carries its own checksum."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsify.errors import CorruptError
from sparsify.store.digest import canonical_json
from sparsify.store.layout import PARTIAL
from sparsify.store.weights import read_tensors, save_tensors

_FILE = "checkpoint.safetensors"
_log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], key: str) -> None:
    """Replace the folder's checkpoint: tensors, and a JSON `state`, for the stage whose key is given.

    Raises:
        ValueError, TypeError: `state` holds what JSON lacks (NaN, infinity, objects).
        InputOutputError: Disk full, no permission and the like; the checkpoint before it stays.
    """
    metadata = {"key": key, "state": canonical_json(state).decode("ascii")}
    save_tensors(Path(folder) / _FILE, tensors, metadata)


def load_checkpoint(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The checkpoint, or None when there is none or it is another stage key's.

    A damaged one is removed with a warning: what it held can be computed again.

    Raises:
        InputOutputError: It cannot be read.
    """
    path = Path(folder) / _FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path, ours=True)
    except CorruptError as error:
        _log.warning("%s; it was discarded, training starts again", error)
        path.unlink(missing_ok=True)
        return None
    if metadata.get("key") != key or "state" not in metadata:
        return None
    return tensors, json.loads(metadata["state"])


def drop_checkpoint(folder: Path) -> None:
    """Remove the folder's checkpoint, and the folders up to `.partial` that this leaves empty; absent is fine."""
    folder = Path(folder)
    (folder / _FILE).unlink(missing_ok=True)
    for emptied in (folder, *folder.parents):
        try:
            emptied.rmdir()
        except OSError:
            return
        if emptied.name == PARTIAL:
            return
