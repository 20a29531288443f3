"""Whether data brings labels, told from the names in it alone: opens no array, imports no torch."""

from __future__ import annotations

from pathlib import Path

from sparsify.data import npz, tokens
from sparsify.data.catalogue import HF_DATASET, IMAGE_FOLDER, NPZ, parse_source
from sparsify.data.folder import brings_classes
from sparsify.data.hf_columns import find_columns
from sparsify.data.hf_files import list_dataset
from sparsify.data.npz_archive import open_npz


def brings_labels(source: str) -> bool:
    """Whether `source` has labels beside its training inputs; the named data sets always do.

    Args:
        source: as a recipe writes it.

    Raises:
        ValueError: it is no source.
        InputOutputError: the file or folder is absent or cannot be read.
        CorruptError: it is damaged.
        UsageError: a dataset on disk has no column to use.
    """
    name, path = parse_source(source)
    if path is None:
        return True
    if name == IMAGE_FOLDER:
        return brings_classes(path)
    if name == HF_DATASET:
        return find_columns(str(path), list_dataset(path).train.features).labels is not None
    pairs = [(names[0], names[-1]) for names in (npz.TRAIN if name == NPZ else tokens.TRAIN)]
    return _named(path, pairs)


def _named(path: Path, pairs: list[tuple[str, str]]) -> bool:
    with open_npz(path) as archive:
        here = [pair for pair in pairs if pair[0] in archive.names]
        return not here or any(labels in archive.names for _, labels in here)
