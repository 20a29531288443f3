"""A safetensors file read piece by piece: a header that was checked, then bytes in any order, never all at once.

The checks are those of the reference reader (https://github.com/huggingface/safetensors#format): sizes within the
file, every tensor as long as its shape says, no overlap and no hole. Nothing is mapped into memory, so what is resident
is one piece.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, cast

from sparsify.errors import CorruptError, InputOutputError

METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000
_PIECE = 1 << 19
# Bytes an element; dtypes that are not here (some pack several into a byte) are held to their offsets alone.
_WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1} | {
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: dtype as the format spells it, shape, and where its bytes are from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """An open safetensors file; `open_tensor_file` makes one.

    Attributes:
        path: where it is.
        head: its first bytes as they are, up to the first tensor.
        header: the JSON of the header, checked.
        size: length in bytes.
        tensors: by name, in the order of their bytes.
    """

    def __init__(self, path: Path, raw: FileIO, on_read: Callable[[int], None]) -> None:
        self.path, self._raw, self._on_read = path, raw, on_read
        self.head, self.header = _read_header(path, raw)
        self.size = os.fstat(raw.fileno()).st_size
        self.tensors = _entries(path, self.header, len(self.head), self.size)

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own words about itself."""
        return dict(self.header.get(METADATA, {}))

    def pieces(self, start: int, end: int, *, unit: int = 1) -> Iterator[memoryview]:
        """The bytes from `start` to `end` in pieces of about half a mebibyte, each a multiple of `unit` bytes.

        A piece may be changed in place, and is overwritten by the next one.

        Raises:
            InputOutputError: the file cannot be read, or was cut short meanwhile.
        """
        buffer = memoryview(bytearray(min(max(_PIECE // unit, 1) * unit, end - start)))
        for position in range(start, end, max(len(buffer), 1)):
            piece = buffer[: min(len(buffer), end - position)]
            _fill(self.path, self._raw, position, piece)
            self._on_read(len(piece))
            yield piece

    def gathered(self, starts: Sequence[int], length: int) -> memoryview:
        """`length` bytes from each of `starts`, one after the other; raises as `pieces` does."""
        found = memoryview(bytearray(len(starts) * length))
        for i, start in enumerate(starts):
            _fill(self.path, self._raw, start, found[i * length : (i + 1) * length])
        return found


@contextmanager
def open_tensor_file(path: Path, on_read: Callable[[int], None] = lambda _: None) -> Generator[TensorFile]:
    """Open a safetensors file and check its header; `on_read` is told the bytes of every piece.

    Raises:
        CorruptError: it is no safetensors file, or what its header says does not fit its size.
        InputOutputError: it is absent or cannot be read.
    """
    path = Path(path)
    try:
        raw = FileIO(path)
    except OSError as error:
        raise InputOutputError(f"{path}: expected a safetensors file, got: {error.strerror or error}") from error
    with raw:
        yield TensorFile(path, raw, on_read)


def _fill(path: Path, raw: FileIO, position: int, piece: memoryview) -> None:
    try:
        raw.seek(position)
        filled = 0
        while filled < len(piece):
            count = raw.readinto(piece[filled:])
            if not count:
                raise InputOutputError(
                    f"{path}: expected {len(piece)} bytes at {position}, got {filled}: it was cut short"
                )
            filled += count
    except OSError as error:
        raise InputOutputError(f"{path}: could not be read: {error.strerror or error}; check its disk") from error


def _read_header(path: Path, raw: FileIO) -> tuple[bytes, dict[str, Any]]:
    size = os.fstat(raw.fileno()).st_size
    if size < 8:
        raise _corrupt(path, f"a file of {size} bytes")
    prefix = bytearray(8)
    _fill(path, raw, 0, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise _corrupt(path, f"a header of {length} bytes in a file of {size}")
    text = bytearray(length)
    _fill(path, raw, 8, memoryview(text))
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"a header that is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _corrupt(path, "a header that is no JSON object")
    return bytes(prefix + text), cast("dict[str, Any]", header)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _entries(path: Path, header: dict[str, Any], payload: int, size: int) -> dict[str, TensorEntry]:
    """The tensors in the order of their bytes, which follow each other from the header to the end of the file."""
    metadata = header.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in cast("Any", metadata).values()):
        raise _corrupt(path, f"a header whose {METADATA} is no mapping of texts")
    entries = [_entry(path, name, value, payload) for name, value in header.items() if name != METADATA]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    end = payload
    for entry in entries:
        if entry.start != end:
            raise _corrupt(path, f"a gap or an overlap before {entry.name}")
        end = entry.end
    if end != size:
        raise _corrupt(path, f"tensors that end at byte {end} in a file of {size}")
    return {entry.name: entry for entry in entries}


def _entry(path: Path, name: str, value: object, payload: int) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end]} if _whole([*shape, start, end]):
            length = math.prod(cast("list[int]", shape)) * _WIDTHS[dtype] if dtype in _WIDTHS else end - start
            if start <= end and length == end - start:
                return TensorEntry(name, dtype, tuple(cast("list[int]", shape)), payload + start, payload + end)
            raise _corrupt(path, f"{end - start} bytes for {name}, a {dtype} of shape {shape}")
        case _:
            raise _corrupt(path, f"an entry {name} without dtype, shape and data_offsets")


def _whole(numbers: list[Any]) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _corrupt(path: Path, got: str) -> CorruptError:
    return CorruptError(f"{path}: expected a safetensors file, got {got}; fetch or save it again")
