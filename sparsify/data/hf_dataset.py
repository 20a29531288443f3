"""A Hugging Face dataset on disk, read from its Arrow files alone.

`datasets.load_from_disk` is not used: it makes objects of classes that the files name, applies a format they ask for,
and its image columns fetch what they name, also from the network. Arrow's own format holds nothing that runs, and
pictures are decoded by the same code as a folder's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.catalogue import tokenizer_file
from sparsify.data.framing import Framing
from sparsify.data.hf_columns import MASK, Columns, find_columns
from sparsify.data.hf_files import HfSplit, list_dataset
from sparsify.data.hf_table import Ragged, Table, read_table
from sparsify.data.labels import UNLABELLED, Labels, no_labels, to_labels
from sparsify.data.pictures import WHITE, Picture, read_pictures
from sparsify.data.source import Inputs, Part, Source
from sparsify.data.tokens import to_texts
from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError


def read_hf_dataset(
    path: Path, *, framing: Framing | None, tokenizer: str | None, max_tokens: int, channels: int | None = None
) -> Source:
    """The images, token ids or texts in `path`, with their labels if there are any.

    Args:
        path: What `save_to_disk` wrote, of one split or of several.
        framing: How pictures are brought to one size; see `pictures.read_pictures`.
        tokenizer: A `tokenizer.json` or its folder, for columns of text.
        max_tokens: Tokens that longer texts are cut to; all are padded to the longest that is left.
        channels: Of pictures: 1 for grey, 3 for colour; None for what they are.

    Raises:
        InputOutputError: A file is absent or cannot be read.
        CorruptError: A file is damaged, or a picture cannot be decoded.
        UsageError: There is no column to use, more than one would do, a value is missing, or a text column has no
            tokenizer.
        UnavailableError: pyarrow or tokenizers is not installed.
    """
    listing = list_dataset(path)
    columns = find_columns(str(path), listing.train.features)
    splits = [split for split in (listing.train, listing.validation, listing.test) if split is not None]
    tables = [_table(split, columns) for split in splits]
    if columns.kind == "images":
        white, inputs = WHITE, _images(str(path), tables, columns, framing, channels)
    else:
        white = 1.0
        ragged = [_ids(table, columns, tokenizer, max_tokens) for table in tables]
        inputs = _padded(ragged, str(path))
    found = [Part(each, _labels(table, columns, each)) for each, table in zip(inputs, tables, strict=True)]
    of_split = {id(split): part for split, part in zip(splits, found, strict=True)}
    return Source(
        str(path), white, found[0], of_split.get(id(listing.validation)), of_split.get(id(listing.test)),
        class_names=columns.class_names,
    )  # fmt: skip


def _table(split: HfSplit, columns: Columns) -> Table:
    wanted = [columns.inputs, *([columns.labels] if columns.labels else [])]
    if columns.kind == "ids" and MASK in split.features:
        wanted.append(MASK)
    return read_table(split, wanted)


def _images(
    name: str, tables: Sequence[Table], columns: Columns, framing: Framing | None, channels: int | None
) -> Sequence[Inputs]:
    parts: list[list[Picture]] = []
    for table in tables:
        pictures = [
            Picture(f"{table.name}: {columns.inputs} of row {row}", content)
            for row, content in enumerate(table.pictures(columns.inputs))
        ]
        parts.append(pictures)
    return read_pictures(name, parts, framing, channels)


def _ids(table: Table, columns: Columns, tokenizer: str | None, max_tokens: int) -> tuple[Ragged, Ragged]:
    """Ids and mask of each row's tokens, cut to `max_tokens`."""
    if columns.kind == "text":
        if tokenizer is None:
            raise UsageError(
                f"{table.name}: expected a tokenizer for the text in column {columns.inputs}, got none; name the "
                "network's tokenizer.json or its folder (data.tokenizer)"
            )
        ids = Ragged.of(tokenize(table.strings(columns.inputs), tokenizer_file(tokenizer), max_tokens))
        return ids, ids.ones()
    ids = table.ragged(columns.inputs)
    mask = table.ragged(MASK) if MASK in table.columns else ids.ones()
    if not np.array_equal(ids.lengths, mask.lengths):
        raise UsageError(f"{table.name}: expected {MASK} as long as {columns.inputs} in every row, got another length")
    return ids.cut(max_tokens), mask.cut(max_tokens)


def _padded(ragged: Sequence[tuple[Ragged, Ragged]], name: str) -> Sequence[Inputs]:
    longest = max((int(ids.lengths.max(initial=0)) for ids, _ in ragged), default=0)
    return [to_texts(ids.padded(longest, 0), mask.padded(longest, 0), name) for ids, mask in ragged]


def _labels(table: Table, columns: Columns, inputs: Inputs) -> Labels:
    if columns.labels is None:
        return no_labels(len(inputs))
    name = f"{table.name}: {columns.labels}"
    if not table.is_list(columns.labels):
        return to_labels(table.numbers(columns.labels), len(inputs), name)
    ragged = table.ragged(columns.labels)
    if columns.kind == "images" or ragged.values.dtype.kind == "f":
        return to_labels(ragged.square(name), len(inputs), name)
    if not np.array_equal(ragged.lengths, table.ragged(columns.inputs).lengths):
        raise UsageError(f"{name}: expected a label for each token of {columns.inputs}, got lists of another length")
    positions = inputs.shape[2:]
    return to_labels(ragged.cut(positions[0]).padded(positions[0], UNLABELLED), len(inputs), name, positions=positions)


def tokenize(texts: Sequence[str], file: Path, max_tokens: int) -> list[NDArray[Any]]:
    """The ids of each text's tokens, at most `max_tokens`, by a `tokenizer.json`; raises as `read_hf_dataset` does."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UnavailableError(
            f"expected tokenizers to read {file}, got {error}; pip install 'sparsify-tickets[hf]'"
        ) from None
    if not file.is_file():
        raise InputOutputError(f"data.tokenizer: expected the file {file}, got nothing there")
    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower type
        raise CorruptError(f"{file}: expected a tokenizer.json, got damage: {error}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return [np.array(encoded.ids, np.int64) for encoded in tokenizer.encode_batch(texts)]
