"""Rows of Arrow files as NumPy arrays, each column checked as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.hf_files import HfSplit
from sparsify.data.memory import check_memory
from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Rows of different lengths: all values one after the other, and how many each row has."""

    values: NDArray[Any]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]]) -> Ragged:
        """The given rows."""
        values = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return cls(values, np.array([len(row) for row in rows], np.int64))

    def ones(self) -> Ragged:
        """A one for each value."""
        return Ragged(np.ones(len(self.values), np.int64), self.lengths)

    def cut(self, longest: int) -> Ragged:
        """The first `longest` values of each row."""
        position = np.arange(len(self.values)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        return Ragged(self.values[position < longest], np.minimum(self.lengths, longest))

    def padded(self, longest: int, fill: int) -> NDArray[Any]:
        """The rows as (N, longest), `fill` after each row's end; no row may be longer."""
        array = np.full((len(self.lengths), longest), fill, self.values.dtype)
        array[np.arange(longest) < self.lengths[:, np.newaxis]] = self.values
        return array

    def square(self, name: str) -> NDArray[Any]:
        """The rows as (N, K); UsageError where they are of different lengths."""
        if len(np.unique(self.lengths)) != 1:
            raise UsageError(f"{name}: expected lists of one length, got several; pad them")
        return self.values.reshape(len(self.lengths), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Some columns of one split; made by `read_table`."""

    name: str
    columns: dict[str, Any]

    def is_list(self, column: str) -> bool:
        """Whether each row has a list."""
        import pyarrow as pa

        kind = self.columns[column].type
        return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)

    def numbers(self, column: str) -> NDArray[Any]:
        """One number a row.

        Raises:
            UsageError: They are not numbers.
        """
        return self._numbers(self.columns[column], column)

    def ragged(self, column: str) -> Ragged:
        """A list of numbers a row.

        Raises:
            UsageError: They are not lists of numbers, or one is missing.
        """
        import pyarrow.compute

        if not self.is_list(column):
            raise self._unlike(column, "lists of numbers")
        lists = self.columns[column]
        compute: Any = pyarrow.compute  # its functions are made when it is imported
        lengths = compute.list_value_length(lists).to_numpy().astype(np.int64)
        return Ragged(self._numbers(compute.list_flatten(lists), column), lengths)

    def strings(self, column: str) -> list[str]:
        """One text a row."""
        return self.columns[column].to_pylist()

    def pictures(self, column: str) -> list[bytes]:
        """One encoded picture a row.

        Raises:
            UsageError: A picture is not in the dataset itself; what it names is not fetched.
        """
        import pyarrow as pa

        kind = self.columns[column].type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise self._unlike(column, "encoded pictures")
        rows = [row["bytes"] for row in self.columns[column].to_pylist()]
        if None in rows:
            raise UsageError(
                f"{self.name}: {column}: expected pictures embedded in the dataset, got a path or address in row "
                f"{rows.index(None)}, which is not followed; save with embed_external_files=True"
            )
        return rows

    def _numbers(self, column: Any, name: str) -> NDArray[Any]:
        import pyarrow as pa

        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise self._unlike(name, "numbers")
        if column.null_count:
            raise UsageError(f"{self.name}: {name}: expected a value everywhere, got some missing; filter them out")
        return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)

    def _unlike(self, column: str, expected: str) -> UsageError:
        return UsageError(f"{self.name}: {column}: expected {expected}, got {self.columns[column].type}")


def read_table(split: HfSplit, columns: Sequence[str]) -> Table:
    """The columns of a split, its files one after the other.

    Raises:
        InputOutputError: A file is absent or cannot be read.
        CorruptError: A file is damaged.
        UsageError: A column or a value is missing, or the files are larger than the machine's memory.
        UnavailableError: pyarrow is not installed.
    """
    name = str(split.folder)
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UnavailableError(
            f"expected pyarrow to read {name}, got {error}; pip install 'sparsify-tickets[hf]'"
        ) from None
    try:
        check_memory(name, sum(file.stat().st_size for file in split.files))
        tables = [_read(pa, str(file), columns) for file in split.files]
        found: Any = pa.concat_tables(tables)
        found.validate(full=True)
    except KeyError as error:
        raise UsageError(f"{name}: expected a column {error.args[0]} as in train, got none; save it again") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, pa.ArrowKeyError, ValueError) as error:
        raise CorruptError(f"{name}: expected Arrow files that save_to_disk wrote, got damage: {error}") from None
    except OSError as error:
        raise InputOutputError(f"{name}: expected readable files, got: {error.strerror or error}") from error
    table = Table(name, {column: _storage(pa, found[column]) for column in columns})
    if missing := [column for column, values in table.columns.items() if values.null_count]:
        raise UsageError(f"{name}: {missing[0]}: expected a value in every row, got some missing; filter them out")
    return table


def _read(pa: Any, file: str, columns: Sequence[str]) -> Any:
    with pa.OSFile(file) as opened, pa.ipc.open_stream(opened) as stream:
        table = stream.read_all()
    for column in columns:
        if column not in table.column_names:
            raise KeyError(column)
    return table.select(list(columns))


def _storage(pa: Any, column: Any) -> Any:
    """The column as plain Arrow: a type that another library registered is looked through."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
