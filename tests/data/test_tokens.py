import numpy as np
import pytest

from sparsify.data.tokens import read_tokens, to_texts
from sparsify.errors import CorruptError, UsageError

IDS = np.arange(12).reshape(4, 3)
PARTS = ("train", "val", "test")
MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]])


@pytest.fixture
def archive(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


@pytest.mark.parametrize("names", ["ids mask", "IDS_train MASK_train", "input_ids attention_mask"])
def test_ids_and_mask_become_two_rows(archive, names):
    source = read_tokens(archive(**dict(zip(names.split(), (IDS.astype(np.uint16), MASK.astype(bool)), strict=True))))
    assert source.kind == "none" and source.train.inputs.dtype == np.int64
    np.testing.assert_array_equal(source.train.inputs[:, 0], IDS)
    np.testing.assert_array_equal(source.train.inputs[:, 1], MASK)


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (np.array([0, 1, 2, 0]), "classes", 3),
        (np.where(MASK, IDS % 4, -100), "positions", 4),
        (np.array([0.5, 1, 2, 3]), "values", 1),
    ],
)
def test_labels_of_every_kind(archive, labels, kind, classes):
    source = read_tokens(archive(ids=IDS, mask=MASK, labels=labels))
    assert (source.kind, source.classes) == (kind, classes)
    np.testing.assert_array_equal(source.train.labels, labels)


def test_parts_by_name(archive):
    arrays = {
        f"{what}_{part}": value for part in ("train", "val", "test") for what, value in (("ids", IDS), ("mask", MASK))
    }
    source = read_tokens(archive(**arrays))
    assert source.validation is not None and source.test is not None and len(source.test) == 4


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"x": IDS}, UsageError, "expected arrays ids and mask, .* got x"),
        ({"ids": IDS}, UsageError, "expected mask beside ids"),
        ({"ids": IDS, "mask": MASK, "tags": MASK}, UsageError, "rename tags to labels"),
        ({"ids": IDS.astype(float), "mask": MASK}, UsageError, "arrays of integers of one shape"),
        ({"ids": IDS, "mask": MASK[:, :2]}, UsageError, "arrays of integers of one shape"),
        ({"ids": IDS - 1, "mask": MASK}, UsageError, "expected ids from 0, got -1"),
        ({"ids": IDS, "mask": MASK * 2}, UsageError, "a mask of 0 and 1"),
        ({"ids": IDS, "mask": MASK * 0}, UsageError, "a 1 in every text"),
        (
            {"ids": IDS, "mask": MASK, "labels": MASK[:, :2]},
            UsageError,
            r"\(4,\), or \(4, 3\), got shape \(4, 2\)",
        ),
        ({"ids": np.array([object()]), "mask": MASK}, CorruptError, "Python objects"),
    ],
)
def test_what_is_not_as_promised_is_refused(archive, arrays, error, says):
    with pytest.raises(error, match=says):
        read_tokens(archive(**arrays))


def test_no_texts_are_no_fault_of_the_shape():
    assert to_texts(IDS[:0], MASK[:0], "x").shape == (0, 2, 3)
