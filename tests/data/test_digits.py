"""The digits are scikit-learn's own, whether its package is imported or only its file is read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sparsify.data import digits
from sparsify.errors import CorruptError, UnavailableError


def test_images_and_labels_are_scikit_learns():
    source, original = digits.read_digits(), load_digits()
    assert source.test is None and source.validation is None and source.classes == 10
    np.testing.assert_array_equal(source.train.inputs[:, 0], original.images)
    np.testing.assert_array_equal(source.train.labels, original.target)
    assert original.images.max() == source.white


class Elsewhere:
    def __init__(self, origin: Path) -> None:
        self.origin = str(origin / "__init__.py")


def test_should_its_file_move_the_package_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "find_spec", lambda _: Elsewhere(tmp_path))
    assert len(digits.read_digits().train) == 1797


def test_without_scikit_learn_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match="pip install scikit-learn"):
        digits.read_digits()


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"0,1\n"])
def test_a_damaged_copy_is_refused(monkeypatch, tmp_path, damage):
    original = Path(sys.modules["sklearn"].__file__ or "").parent / "datasets" / "data" / "digits.csv.gz"
    (tmp_path / "datasets" / "data").mkdir(parents=True)
    (tmp_path / "datasets" / "data" / "digits.csv.gz").write_bytes(damage(original.read_bytes()))
    monkeypatch.setattr(digits, "find_spec", lambda _: Elsewhere(tmp_path))
    with pytest.raises(CorruptError, match=r"digits.*reinstall scikit-learn"):
        digits.read_digits()


def test_another_releases_digits_would_be_refused(monkeypatch):
    table = digits._table()
    table[0, 0] += 1
    monkeypatch.setattr(digits, "_table", lambda: table)
    with pytest.raises(CorruptError, match=r"expected SHA-256 .* got .* reinstall"):
        digits.read_digits()
