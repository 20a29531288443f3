"""The weights in a folder of transformers: one file, or several and an index."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sparsify.models.checkpoint import read_state
from sparsify.store.shards import INDEX, shard_names

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
        index = folder / f"{name}{INDEX}"
        if index.is_file():
            return {key: tensor for shard in shard_names(index) for key, tensor in read_state(folder / shard).items()}
    return None
