"""The weights in a network's folder: `weights.safetensors`, or `weights.packed`, in which zeros take no space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.atomic import write_bytes
from sparsify.store.layout import PACKED, WEIGHTS
from sparsify.store.packed import LARGEST, masked_bytes, pack, unpack
from sparsify.store.weights import load_tensors, save_tensors


def save_weights(folder: Path, state: Mapping[str, Tensor], *, packed: bool = False) -> None:
    """Write a state dict into a folder that has none; `packed` where it is no larger than what is unpacked unasked.

    Raises:
        UsageError: A dtype that the format does not hold.
        InputOutputError: Disk full, no permission and the like; nothing was replaced.
    """
    if packed and masked_bytes(state) <= LARGEST:
        write_bytes(folder / PACKED, pack(state))
    else:
        save_tensors(folder / WEIGHTS, state)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict of a folder, bit for bit as it was saved, onto the CPU.

    Raises:
        CorruptError: The file was changed.
        InputOutputError: It is absent or cannot be read.
    """
    return load_packed(folder / PACKED) if (folder / PACKED).is_file() else load_tensors(folder / WEIGHTS)


def load_packed(path: Path) -> dict[str, Tensor]:
    """The tensors of a packed file; raises as `load_weights` does, naming the file."""
    try:
        return unpack(path.read_bytes())
    except CorruptError as error:
        raise CorruptError(f"{path}: {error}") from error
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
