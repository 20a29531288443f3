"""How a folder of pictures is laid out: a folder a class or pictures alone, in `train/`, `val/` and `test/` or not.

Opens no picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsify.errors import InputOutputError, UsageError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION = ("validation", "val", "valid", "dev")
"""What the part to validate on is called."""
_PARTS = frozenset({"train", "training", "test", "testing", "eval", *VALIDATION})
"""What parts are called; no classes are, where all are called so."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Which pictures there are; class name -> files, both sorted.

    Attributes:
        train: All pictures that have no other part; under the name "" those without a class.
        validation: Those in `validation/`, `val/`, `valid/` or `dev/`; empty if there is none.
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
    """The pictures under `path`: in parts if folders are called so (`train/`, `val/`, `test/`), else all of them one.

    In a part lie folders, one a class, or pictures without classes, as they do in training. Hidden files and files that
    are no pictures by their suffix are passed over; folders in a class belong to it.

    Raises:
        InputOutputError: The folder is absent or cannot be read.
        UsageError: There are fewer than two classes, one of them has no picture, a part has a class of its own, or
            it cannot be told which part a folder is.
    """
    if not path.is_dir():
        raise InputOutputError(f"{path}: expected a folder of pictures, got {'a file' if path.exists() else 'nothing'}")
    if not _is_in_parts(path):
        return Listing(_classes(path) if brings_classes(path) else _alone(path), {}, {})
    validation = _validation_in(path)
    pictures_of = _classes if brings_classes(path) else _alone
    listing = Listing(
        pictures_of(path / "train"),
        pictures_of(path / validation) if validation else {},
        pictures_of(path / "test") if (path / "test").is_dir() else {},
    )
    for part, classes in (("validation", listing.validation), ("test", listing.test)):
        if strange := sorted(set(classes) - set(listing.train)):
            names = ", ".join(listing.train)
            raise UsageError(f"{path}: {part}: class {strange[0]!r} is not among those in train: {names}")
    return listing


def brings_classes(path: Path) -> bool:
    """Whether the pictures lie in folders, one a class. Raises `InputOutputError` where the folder cannot be read."""
    train = path / "train" if _is_in_parts(path) else path
    return bool(_folders(train)) or not any(map(_is_picture, train.iterdir()))


def _is_in_parts(path: Path) -> bool:
    """Whether its folders are parts: all are called like one, or `train/` itself holds folders."""
    names = [folder.name for folder in _folders(path)]
    called = bool(names) and _PARTS.issuperset(map(str.lower, names))
    return called or ("train" in names and bool(_folders(path / "train")))


def _validation_in(path: Path) -> str:
    """The name of the part to validate on, empty without one; refuses folders that may be a part, and which is open."""
    names = [folder.name for folder in _folders(path)]
    validation = next((name for name in names if name in VALIDATION), "")
    unclear = [name for name in names if name.lower() in _PARTS and name not in ("train", validation, "test")]
    if unclear or "train" not in names:
        raise UsageError(
            f"{path}: expected train/ and, if there are any, one of {', '.join(f'{name}/' for name in VALIDATION)} and "
            f"test/, got {', '.join(names)}; rename what is a part, and classes that are called like one"
        )
    return validation


def _alone(path: Path) -> dict[str, tuple[Path, ...]]:
    pictures = tuple(sorted(filter(_is_picture, path.iterdir())))
    if _folders(path) or not pictures:
        got = "folders" if _folders(path) else "none"
        raise UsageError(f"{path}: expected pictures and no folders, as without classes in train/, got {got}")
    return {"": pictures}


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
        if _is_picture(Path(name))
    )


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _refuse(error: OSError) -> None:
    raise InputOutputError(f"{error.filename}: expected a readable folder, got: {error.strerror}") from error
