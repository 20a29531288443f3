from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsify.data.labelled import brings_labels
from sparsify.errors import InputOutputError

X, Y = np.zeros((4, 3), np.float32), np.arange(4)
IDS = np.ones((4, 5), np.int64)


@pytest.mark.parametrize(
    ("kind", "arrays", "expected"),
    [
        ("npz", {"x": X}, False),
        ("npz", {"x": X, "y": Y}, True),
        ("npz", {"X_train": X, "Y_train": Y, "x_test": X}, True),
        ("tokens", {"input_ids": IDS, "attention_mask": IDS}, False),
        ("tokens", {"ids": IDS, "mask": IDS, "labels": Y}, True),
    ],
)
def test_it_is_told_by_the_arrays_names(kind: str, arrays: dict[str, np.ndarray], expected: bool, tmp_path: Path):
    np.savez(tmp_path / "a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    assert brings_labels(f"{kind}:{tmp_path / 'a.npz'}") is expected


def test_named_data_sets_and_folders_have_labels_and_what_is_absent_is_said(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    assert brings_labels("digits") and brings_labels(f"image-folder:{tmp_path}")
    with pytest.raises(InputOutputError):
        brings_labels(f"npz:{tmp_path / 'none.npz'}")


def test_pictures_alone_have_none(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    assert not brings_labels(f"image-folder:{tmp_path}")


def test_a_dataset_on_disk_tells_it_by_its_columns(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    for name, columns in {"with": {"input_ids": [[1, 2]], "label": [0]}, "without": {"input_ids": [[1, 2]]}}.items():
        datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / name)
    assert brings_labels(f"hf-dataset:{tmp_path / 'with'}")
    assert not brings_labels(f"hf-dataset:{tmp_path / 'without'}")
