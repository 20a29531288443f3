from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from sparsify.data.labelled import labels_brought
from sparsify.errors import CorruptError, InputOutputError

X, Y = np.zeros((4, 3), np.float32), np.arange(4)
IDS = np.ones((4, 5), np.int64)


@pytest.mark.parametrize(
    ("kind", "arrays", "expected"),
    [
        ("npz", {"x": X}, "none"),
        ("npz", {"x": X, "y": Y}, "classes"),
        ("npz", {"x": X, "y": X}, "values"),
        ("npz", {"x": X, "y": Y.astype(np.float16)}, "values"),
        ("npz", {"X_train": X, "Y_train": Y, "x_test": X}, "classes"),
        ("tokens", {"input_ids": IDS, "attention_mask": IDS}, "none"),
        ("tokens", {"ids": IDS, "mask": IDS, "labels": Y}, "classes"),
        ("tokens", {"ids": IDS, "mask": IDS, "labels": IDS}, "classes"),
        ("tokens", {"ids": IDS, "mask": IDS, "labels": Y / 2}, "values"),
    ],
)
def test_it_is_told_by_the_arrays_names_and_types(
    kind: str, arrays: dict[str, np.ndarray], expected: str, tmp_path: Path
):
    np.savez(tmp_path / "a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    assert labels_brought(f"{kind}:{tmp_path / 'a.npz'}") == expected


def test_named_data_sets_and_folders_have_classes_and_what_is_absent_is_said(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    assert labels_brought("digits") == labels_brought(f"image-folder:{tmp_path}") == "classes"
    with pytest.raises(InputOutputError):
        labels_brought(f"npz:{tmp_path / 'none.npz'}")


def test_an_array_that_is_none_is_damage(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"")
        archive.writestr("y.npy", b"no array")
    with pytest.raises(CorruptError, match="y: expected a NumPy array, got damage"):
        labels_brought(f"npz:{tmp_path / 'a.npz'}")


def test_pictures_alone_have_none(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    assert labels_brought(f"image-folder:{tmp_path}") == "none"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": [0]}, "classes"),
        ({"label": [[0, 1]]}, "classes"),
        ({"label": [0.5]}, "values"),
        ({"labels": [[0.5, 1.5]]}, "values"),
        ({}, "none"),
    ],
)
def test_a_dataset_on_disk_tells_it_by_its_columns(columns: dict[str, list[object]], expected: str, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"input_ids": [[1, 2]], **columns}).save_to_disk(tmp_path / "data")
    assert labels_brought(f"hf-dataset:{tmp_path / 'data'}") == expected
