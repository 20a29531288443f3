"""The weights in a folder of transformers: one file, or several and an index."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from sparsify.errors import CorruptError, InputOutputError
from sparsify.models.checkpoint import read_state

FILES = ("model.safetensors", "pytorch_model.bin")


def read_folder(folder: Path) -> dict[str, Tensor] | None:
    """Every tensor of the folder's weights, safetensors first; None where it has none.

    Raises:
        CorruptError: A file is damaged or would run code, or the index names a file outside the folder.
        InputOutputError: A shard is missing.
    """
    for name in FILES:
        if (folder / name).is_file():
            return read_state(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return {key: tensor for shard in _shards(index) for key, tensor in read_state(folder / shard).items()}
    return None


def _shards(index: Path) -> list[str]:
    try:
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except OSError as error:
        raise InputOutputError(f"{index}: expected an index of weights, got: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{index}: expected an index of weights with weight_map, got {error!r}") from error
    if stray := next((name for name in names if Path(name).name != name), None):
        raise CorruptError(f"{index}: expected names of files beside it, got {stray!r}, which may lie elsewhere")
    return names
