"""Which labels data brings, told from the names and types in it alone: reads no array, imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sparsify.data import npz, tokens
from sparsify.data.catalogue import HF_DATASET, IMAGE_FOLDER, NPZ, parse_source
from sparsify.data.folder import brings_classes
from sparsify.data.hf_columns import brings_values, find_columns
from sparsify.data.hf_files import list_dataset
from sparsify.data.npz_archive import open_npz

Brought = Literal["classes", "values", "none"]


def labels_brought(source: str) -> Brought:
    """What `source` has beside its training inputs: classes (of positions too), values to regress on, or nothing.

    The named data sets always have classes.

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
        return "classes"
    if name == IMAGE_FOLDER:
        return "classes" if brings_classes(path) else "none"
    if name == HF_DATASET:
        features = list_dataset(path).train.features
        labels = find_columns(str(path), features).labels
        return "none" if labels is None else "values" if brings_values(features[labels]) else "classes"
    pairs = [(names[0], names[-1]) for names in (npz.TRAIN if name == NPZ else tokens.TRAIN)]
    return _of_arrays(path, pairs)


def _of_arrays(path: Path, pairs: list[tuple[str, str]]) -> Brought:
    """By the first labels that lie beside inputs; what has no inputs is refused by whoever reads it."""
    with open_npz(path) as archive:
        here = [pair for pair in pairs if pair[0] in archive.names]
        labels = next((labels for _, labels in here if labels in archive.names), None)
        if labels is None:
            return "none" if here else "classes"
        return "values" if archive.dtype(labels).kind == "f" else "classes"
