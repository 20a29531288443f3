"""The user's own texts, as token ids and attention masks in a NumPy `.npz` archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.labels import no_labels, to_labels
from sparsify.data.npz import check_no_stranger
from sparsify.data.npz_archive import NpzArchive, open_npz
from sparsify.data.source import Part, Source
from sparsify.errors import UsageError

# The names, ids then mask then labels, that each part may go by; letters' case is ignored.
TRAIN = (
    ("ids_train", "mask_train", "labels_train"),
    ("ids", "mask", "labels"),
    ("input_ids", "attention_mask", "labels"),
)
VALIDATION = (("ids_val", "mask_val", "labels_val"),)
TEST = (("ids_test", "mask_test", "labels_test"),)
KNOWN = {name for names in TRAIN + VALIDATION + TEST for name in names}


def read_tokens(path: Path) -> Source:
    """The texts in `path`, each as two rows: its tokens' ids, and 1 for a token and 0 for padding.

    Ids and masks are integers shaped (N, T). Labels are integers shaped (N,) for classes, integers (N, T) for each
    token's class, -100 where it has none, floats (N,) or (N, K) to regress on, or absent in every part.

    Raises:
        InputOutputError: The file is absent or cannot be read.
        CorruptError: It is no `.npz`, is damaged, holds Python objects, or labels that are not finite.
        UsageError: Arrays are missing, or their shapes, types or values are not those above.
    """
    with open_npz(path) as archive:
        train = _part(archive, TRAIN)
        if train is None:
            raise UsageError(
                f"{path}: expected arrays ids and mask, or ids_train and mask_train (with ids_test, mask_test, "
                f"ids_val, mask_val if there are any), got {', '.join(archive.names) or 'none'}"
            )
        return Source(str(path), 1.0, train, _part(archive, VALIDATION), _part(archive, TEST))


def _part(archive: NpzArchive, triples: tuple[tuple[str, str, str], ...]) -> Part | None:
    for ids, mask, labels in triples:
        if ids not in archive.names:
            continue
        if mask not in archive.names:
            got = ", ".join(archive.names)
            raise UsageError(
                f"{archive.path}: expected {mask} beside {ids}, 1 for a token and 0 for padding, got {got}"
            )
        texts = to_texts(archive.read(ids), archive.read(mask), f"{archive.path}: {ids} and {mask}")
        if labels in archive.names:
            found = archive.read(labels)
            name = f"{archive.path}: {labels}"
            return Part(texts, to_labels(found, len(texts), name, positions=texts.shape[2:]))
        check_no_stranger(archive, labels, KNOWN)
        return Part(texts, no_labels(len(texts)))
    return None


def to_texts(ids: NDArray[Any], mask: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Token ids (N, T) and attention mask (N, T) as one array (N, 2, T).

    Raises:
        UsageError: They are not integers of one shape, an id is negative, or a mask is other than 0 and 1 or hides a
            whole text.
    """
    if ids.dtype.kind not in "iu" or mask.dtype.kind not in "iub" or ids.ndim != 2 or ids.shape != mask.shape:
        raise UsageError(
            f"{name}: expected two arrays of integers of one shape (N, T), "
            f"got {ids.dtype} {ids.shape} and {mask.dtype} {mask.shape}"
        )
    if ids.size and (ids.min() < 0 or ids.max() > np.iinfo(np.int64).max):
        raise UsageError(
            f"{name}: expected ids from 0, got {ids.min()} to {ids.max()}; fill padding with any token's id"
        )
    if not np.isin(mask, (0, 1)).all() or not mask.any(axis=1).all():
        raise UsageError(f"{name}: expected a mask of 0 and 1 with a 1 in every text, got another; 1 is for a token")
    return np.stack((ids.astype(np.int64), mask.astype(np.int64)), axis=1)
