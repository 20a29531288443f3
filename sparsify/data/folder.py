"""How a folder of pictures is laid out: a folder a class, in `train/`, `val/` and `test/` or not; or pictures alone.

Opens no picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsify.errors import InputOutputError, UsageError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION_FOLDERS = ("val", "validation")


@dataclass(frozen=True, slots=True)
class Listing:
    """Which pictures there are; class name -> files, both sorted.

    Attributes:
        train: All pictures that have no other part; under the name "" those without a class.
        validation: Those in `val/` or `validation/`; empty if there is none.
        test: Those in `test/`; empty if there is none.
    """

    train: Mapping[str, tuple[Path, ...]]
    validation: Mapping[str, tuple[Path, ...]]
    test: Mapping[str, tuple[Path, ...]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The training classes in order: a picture's label is its class's position here; empty without classes."""
        return tuple(name for name in self.train if name)

    def files(self) -> list[Path]:
        """Every picture, in an order that the file system has no say in."""
        return [file for part in (self.train, self.validation, self.test) for files in part.values() for file in files]


def list_folder(path: Path) -> Listing:
    """The pictures under `path`: in `train/`, `val/` and `test/` if `train/` holds folders, else in folders a class.

    A folder that holds pictures and no folder has no classes. Hidden files and files that are no pictures by their
    suffix are passed over; folders in a class belong to it.

    Raises:
        InputOutputError: The folder is absent or cannot be read.
        UsageError: There are fewer than two classes, one of them has no picture, or a part has a class of its own.
    """
    if not path.is_dir():
        raise InputOutputError(f"{path}: expected a folder of pictures, got {'a file' if path.exists() else 'nothing'}")
    if not brings_classes(path):
        return Listing({"": tuple(_alone(path))}, {}, {})
    if not (path / "train").is_dir() or not _folders(path / "train"):
        return Listing(_classes(path), {}, {})
    listing = Listing(
        _classes(path / "train"),
        next((_classes(path / name) for name in VALIDATION_FOLDERS if (path / name).is_dir()), {}),
        _classes(path / "test") if (path / "test").is_dir() else {},
    )
    for part, classes in (("validation", listing.validation), ("test", listing.test)):
        if strange := sorted(set(classes) - set(listing.train)):
            names = ", ".join(listing.train)
            raise UsageError(f"{path}: {part}: class {strange[0]!r} is not among those in train: {names}")
    return listing


def brings_classes(path: Path) -> bool:
    """Whether the folder is not pictures alone. Raises `InputOutputError` where it cannot be read."""
    return bool(_folders(path)) or not _alone(path)


def _alone(path: Path) -> list[Path]:
    return [file for file in _pictures(path) if file.parent == path]


def _classes(path: Path) -> dict[str, tuple[Path, ...]]:
    classes = {folder.name: tuple(_pictures(folder)) for folder in _folders(path)}
    if len(classes) < 2:
        raise UsageError(
            f"{path}: expected at least two folders, one a class, got {len(classes)}; pictures without classes lie in "
            "the folder itself, with no folder beside them"
        )
    for name, pictures in classes.items():
        if not pictures:
            raise UsageError(f"{path / name}: expected pictures ({' '.join(sorted(SUFFIXES))}), got none")
    return classes


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable folder, got: {error.strerror}") from error


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=_refuse)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )


def _refuse(error: OSError) -> None:
    raise InputOutputError(f"{error.filename}: expected a readable folder, got: {error.strerror}") from error
