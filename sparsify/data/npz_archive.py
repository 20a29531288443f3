"""Read arrays of an `.npz` without pickle, and without letting a header say how much memory to take."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sparsify.data.memory import check_memory
from sparsify.errors import CorruptError, InputOutputError

# What zipfile, zlib and NumPy raise on bytes that are not what they claim to be.
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error)


@dataclass(frozen=True, slots=True)
class NpzArchive:
    """An open archive; made by `open_npz`."""

    path: Path
    _archive: zipfile.ZipFile
    _members: Mapping[str, zipfile.ZipInfo]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, in lower case, sorted."""
        return tuple(sorted(self._members))

    def read(self, name: str) -> NDArray[Any]:
        """The array of that name, read-only.

        Raises:
            CorruptError: It is damaged, or holds Python objects.
            UsageError: It is larger than the machine's memory.
        """
        member = self._members[name]
        check_memory(f"{self.path}: {name}", member.file_size)
        with self._opened(name) as file:
            return _read_npy(file, member.file_size, f"{self.path}: {name}")

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of that array, from its header alone.

        Raises:
            CorruptError: It is damaged.
        """
        with self._opened(name) as file:
            return _read_header(file, f"{self.path}: {name}")[2]

    @contextmanager
    def _opened(self, name: str) -> Generator[IO[bytes]]:
        try:
            with self._archive.open(self._members[name]) as file:
                yield file
        except _DAMAGE as error:
            raise CorruptError(f"{self.path}: {name}: expected a NumPy array, got damage: {error}") from None


@contextmanager
def open_npz(path: Path) -> Generator[NpzArchive]:
    """Open an `.npz` for reading.

    Raises:
        InputOutputError: The file is absent or cannot be read.
        CorruptError: It is no zip archive, or two of its arrays' names differ in letters' case alone.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {_array_name(info): info for info in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise CorruptError(f"{path}: expected arrays of different names, got some twice")
            yield NpzArchive(path, archive, members)
    except _DAMAGE as error:
        raise CorruptError(f"{path}: expected a NumPy .npz archive, got: {error}") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a directory that names a place before the file's start
            raise CorruptError(f"{path}: expected a NumPy .npz archive, got: {error}") from None
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error


def _array_name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy").lower()


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise CorruptError(f"{name}: expected .npy version 1.0 or 2.0, got {version}")
    return npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)


def _read_npy(file: IO[bytes], size: int, name: str) -> NDArray[Any]:
    """One `.npy` of `size` bytes, whose header must account for every one of them."""
    shape, fortran_order, dtype = _read_header(file, name)
    if dtype.hasobject:
        raise CorruptError(f"{name}: holds Python objects, which could run code and are refused; store plain numbers")
    start = file.tell()
    if start + prod(shape) * dtype.itemsize != size or min(shape, default=0) < 0:
        raise CorruptError(f"{name}: a header of shape {shape} and {dtype} does not account for its {size} bytes")
    array = np.frombuffer(file.read(), dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")
