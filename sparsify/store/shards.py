"""The index of weights that lie in several files: `model.safetensors.index.json`, as transformers writes it."""

from __future__ import annotations

import json
from pathlib import Path

from sparsify.errors import CorruptError, InputOutputError

INDEX = ".index.json"


def shard_names(index: Path) -> list[str]:
    """Names of the files that an index speaks of, sorted; all beside it.

    Raises:
        CorruptError: it is no index of weights, or names a file elsewhere.
        InputOutputError: it cannot be read.
    """
    try:
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except OSError as error:
        raise InputOutputError(f"{index}: expected an index of weights, got: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{index}: expected an index of weights with weight_map, got {error!r}") from error
    if not names:
        raise CorruptError(f"{index}: expected an index of weights, got one that names no file")
    if stray := next((name for name in names if Path(name).name != name), None):
        raise CorruptError(f"{index}: expected names of files beside it, got {stray!r}, which may lie elsewhere")
    return names
