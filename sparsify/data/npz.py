"""The user's own arrays, from a NumPy `.npz` archive, laid out as images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.labels import no_labels, to_labels
from sparsify.data.npz_archive import NpzArchive, open_npz
from sparsify.data.source import Part, Source
from sparsify.errors import CorruptError, UsageError

# The pairs of names, images then labels, that each part may go by; letters' case is ignored.
TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"), ("images", "labels"))
VALIDATION = (("x_val", "y_val"), ("val_images", "val_labels"))
TEST = (("x_test", "y_test"), ("test_images", "test_labels"))

CHANNELS = (1, 3, 4)


def read_npz(path: Path) -> Source:
    """The images and labels in `path`, or rows of numbers in the images' place.

    Images are uint8 (white is 255) or float (white is 1), shaped (N, H, W), (N, C, H, W) or (N, H, W, C) with 1, 3 or 4
    channels; rows of numbers are float, shaped (N, D). Labels are integers shaped (N,) or (N, 1), floats (N,) or (N, K)
    to regress on, integers (N, H, W) for each pixel's class, or absent in every part.

    Raises:
        InputOutputError: The file is absent or cannot be read.
        CorruptError: It is no `.npz`, is damaged, holds Python objects, or holds values that are not finite.
        UsageError: Arrays are missing, or their shapes or types are not those above.
    """
    with open_npz(path) as archive:
        train = _part(archive, TRAIN)
        if train is None:
            raise UsageError(
                f"{path}: expected arrays x and y, or x_train and y_train (with x_test, y_test, x_val, y_val if there "
                f"are any), got {', '.join(archive.names) or 'none'}"
            )
        validation, test = _part(archive, VALIDATION), _part(archive, TEST)
    types = sorted({part.inputs.dtype.name for part in (train, validation, test) if part is not None})
    if len(types) > 1:
        raise UsageError(f"{path}: expected all images of one type, got {' and '.join(types)}")
    return Source(str(path), 255.0 if types == ["uint8"] else 1.0, train, validation, test)


def _part(archive: NpzArchive, pairs: tuple[tuple[str, str], ...]) -> Part | None:
    """The part by the first pair of names that is there, else by the first images that are: those have no labels."""
    here = [pair for pair in pairs if pair[0] in archive.names]
    if not here:
        return None
    images, labels = next((pair for pair in here if pair[1] in archive.names), here[0])
    inputs = _pixels(archive.read(images), f"{archive.path}: {images}")
    if labels in archive.names:
        found = archive.read(labels)
        return Part(inputs, to_labels(found, len(inputs), f"{archive.path}: {labels}", positions=inputs.shape[2:]))
    check_no_stranger(archive, labels, {name for pair in TRAIN + VALIDATION + TEST for name in pair})
    return Part(inputs, no_labels(len(inputs)))


def check_no_stranger(archive: NpzArchive, labels: str, known: set[str]) -> None:
    """Refuse to take data for unlabelled where an array of another name may be the labels; UsageError names it."""
    if strangers := [name for name in archive.names if name not in known]:
        raise UsageError(
            f"{archive.path}: expected labels in an array {labels}, got {', '.join(archive.names)}; rename "
            f"{strangers[0]} to {labels}, or remove it if the data has no labels"
        )


def _pixels(array: NDArray[Any], name: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Images as (N, C, H, W), uint8 or float32, or rows of numbers (N, D), float32."""
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UsageError(f"{name}: expected uint8 or float images, got {array.dtype}; convert them")
    if array.ndim not in ((3, 4) if array.dtype == np.uint8 else (2, 3, 4)) or 0 in array.shape[1:]:
        raise UsageError(
            f"{name}: expected images (N, H, W), (N, C, H, W) or (N, H, W, C), or rows of floats (N, D), "
            f"got shape {array.shape}"
        )
    images = array[:, np.newaxis] if array.ndim == 3 else array
    if array.ndim == 4:
        images = np.moveaxis(array, channel_axis(array.shape, name), 1)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        floats = np.ascontiguousarray(images, np.float32)
    if not np.isfinite(floats).all():
        first = int(np.argmax(~np.isfinite(floats).reshape(len(floats), -1).all(axis=1)))
        raise CorruptError(f"{name}: expected finite pixels, got one that is not in image {first}")
    return floats


def channel_axis(shape: tuple[int, ...], name: str) -> int:
    """Which axis of (N, C, H, W) or (N, H, W, C) is C: the one of size 1, 3 or 4, the smaller where both are.

    Raises:
        UsageError: Neither is, or both are and equal, so that nothing tells them apart.
    """
    first, last = shape[1], shape[3]
    found = [axis for axis in (1, 3) if shape[axis] in CHANNELS]
    if not found:
        raise UsageError(f"{name}: expected 1, 3 or 4 channels on axis 1 or 3, got shape {shape}")
    if len(found) == 2 and first == last:
        raise UsageError(
            f"{name}: shape {shape} is ambiguous, since axes 1 and 3 could each be the {first} channels; "
            "pad the images or store them as (N, H, W)"
        )
    return min(found, key=lambda axis: shape[axis])
