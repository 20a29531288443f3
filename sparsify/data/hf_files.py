"""Which files a Hugging Face dataset on disk is made of, and what its columns are. Plain JSON; opens no data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.data.folder import VALIDATION
from sparsify.errors import CorruptError, InputOutputError, UsageError

SPLITS, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"


@dataclass(frozen=True, slots=True)
class HfSplit:
    """One split: the Arrow files of its rows, in order, and what `dataset_info.json` says of its columns."""

    folder: Path
    files: tuple[Path, ...]
    features: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HfListing:
    """The splits of a dataset that have a part here; a dataset without splits is all `train`."""

    train: HfSplit
    validation: HfSplit | None = None
    test: HfSplit | None = None


def list_dataset(path: Path) -> HfListing:
    """The files below `path`, which `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Splits of other names than train, validation (val, valid, dev) and test are passed over.

    Raises:
        InputOutputError: The folder is absent or cannot be read.
        UsageError: It is no such dataset, or has no split `train`.
        CorruptError: A file is damaged, or names a file outside its folder.
    """
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise InputOutputError(f"{path}: expected a folder that save_to_disk wrote, got {got}")
    if not (path / SPLITS).is_file():
        return HfListing(_split(path))
    names: Any = _json(path / SPLITS).get("splits")
    if not isinstance(names, list) or "train" not in names:
        raise UsageError(f"{path}: expected a split train, got {names}; rename one, or name a split's own folder")
    validation = next((name for name in VALIDATION if name in names), None)
    return HfListing(
        _split(path / "train"),
        None if validation is None else _split(path / validation),
        _split(path / "test") if "test" in names else None,
    )


def dataset_files(path: Path) -> list[Path]:
    """Every file that says what the data is, in an order of its own; raises as `list_dataset`."""
    listing = list_dataset(path)
    splits = [split for split in (listing.train, listing.validation, listing.test) if split is not None]
    return [file for split in splits for file in (split.folder / INFO, *split.files)]


def _split(folder: Path) -> HfSplit:
    if not (folder / STATE).is_file():
        raise UsageError(f"{folder}: expected {STATE} and {INFO} as save_to_disk writes them, got neither or one")
    state, info = _json(folder / STATE), _json(folder / INFO)
    if state.get("_indices_data_files"):
        raise UsageError(f"{folder}: expected rows in their own order, got indices; save flatten_indices() of it")
    features: Any = info.get("features")
    try:
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise CorruptError(f"{folder / STATE}: expected a list of data files, got {error!r}") from None
    if not isinstance(features, dict) or not features:
        raise CorruptError(f"{folder / INFO}: expected columns under features, got {features!r}")
    if strange := [name for name in names if Path(name).name != name]:
        raise CorruptError(f"{folder / STATE}: expected files in the folder itself, got {strange[0]!r}")
    return HfSplit(folder, tuple(folder / name for name in names), features)


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputOutputError(f"{file}: expected a readable file, got: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{file}: expected JSON, got damage: {error}") from None
    if not isinstance(values, dict):
        raise CorruptError(f"{file}: expected a JSON object, got {type(values).__name__}")
    return values
