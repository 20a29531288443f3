"""The user's own arrays: every layout promised is read, everything else is refused and never run."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparsify.data.npz import channel_axis, read_npz
from sparsify.errors import CorruptError, InputOutputError, UsageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 3, 5, 7), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def archive(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_compressed_or_not(tmp_path, compress):
    compress(tmp_path / "data.npz", x=GREY, y=LABELS)
    source = read_npz(tmp_path / "data.npz")
    assert source.white == 255 and source.test is None and source.validation is None and source.classes == 3
    np.testing.assert_array_equal(source.train.inputs, GREY[:, np.newaxis])
    np.testing.assert_array_equal(source.train.labels, LABELS)


@pytest.mark.parametrize(
    "images",
    [COLOUR, np.moveaxis(COLOUR, 1, 3), np.asfortranarray(COLOUR), np.ascontiguousarray(np.moveaxis(COLOUR, 1, 3))],
    ids=["first", "last", "fortran", "last-contiguous"],
)
def test_channels_come_first_wherever_they_were(archive, images):
    np.testing.assert_array_equal(read_npz(archive(x=images, y=LABELS)).train.inputs, COLOUR)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_floats_of_any_width_become_float32(archive, dtype):
    source = read_npz(archive(x=(GREY / 256).astype(dtype), y=LABELS.astype(np.int8)))
    assert source.white == 1 and source.train.inputs.dtype == np.float32 and source.train.labels.dtype == np.int64
    np.testing.assert_allclose(source.train.inputs[:, 0], GREY / 256, atol=1e-3)


@pytest.mark.parametrize(
    "names",
    [
        "x_train y_train x_val y_val x_test y_test",
        "train_images train_labels val_images val_labels test_images test_labels",
        "X_train Y_train X_val Y_val X_test Y_test",
    ],
)
def test_parts_by_the_usual_names(archive, names):
    parts = (GREY, LABELS, GREY[:3], LABELS[:3], GREY[3:], LABELS[3:, np.newaxis])
    source = read_npz(archive(**dict(zip(names.split(), parts, strict=True))))
    assert source.validation is not None and source.test is not None
    np.testing.assert_array_equal(source.validation.inputs[:, 0], GREY[:3])
    np.testing.assert_array_equal(source.test.inputs[:, 0], GREY[3:])
    np.testing.assert_array_equal(source.test.labels, LABELS[3:])


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((9, 3, 32, 32), 1),
        ((9, 32, 32, 3), 3),
        ((9, 1, 8, 8), 1),
        ((9, 8, 8, 4), 3),
        ((9, 3, 32, 4), 1),
        ((9, 4, 32, 3), 3),
    ],
)
def test_the_channel_axis_is_the_one_of_1_3_or_4(shape, axis):
    assert channel_axis(shape, "x") == axis


@pytest.mark.parametrize(("shape", "says"), [((9, 3, 8, 3), "ambiguous"), ((9, 2, 8, 8), "1, 3 or 4 channels")])
def test_an_axis_that_cannot_be_told_is_refused(shape, says):
    with pytest.raises(UsageError, match=says):
        channel_axis(shape, "x")


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"a": GREY}, UsageError, "expected arrays x and y, .* got a$"),
        ({"x": GREY, "z": LABELS}, UsageError, "expected labels in an array y, got x, z; rename z to y"),
        ({"x": GREY.astype(int), "y": LABELS}, UsageError, "x: expected uint8 or float images, got int64"),
        ({"x": GREY[0], "y": LABELS}, UsageError, r"got shape \(5, 7\)"),
        ({"x": GREY[:, :0], "y": LABELS}, UsageError, r"got shape \(6, 0, 7\)"),
        ({"x": GREY, "y": LABELS[:5]}, UsageError, r"y: expected one label for each of 6 examples.* got shape \(5,\)"),
        ({"x": GREY, "y": np.zeros((6, 2, 2))}, UsageError, r"expected values .* \(6, K\), got shape \(6, 2, 2\)"),
        ({"x": GREY, "y": np.full(6, np.nan)}, CorruptError, "y: expected finite values"),
        ({"x": GREY, "y": LABELS.astype(str)}, UsageError, "expected integer labels, or floats .* got <U21"),
        ({"x": GREY, "y": np.eye(6, dtype=int)}, UsageError, "expected one label for each"),
        ({"x": GREY, "y": np.full(6, 2**64 - 1, np.uint64)}, UsageError, "renumber"),
        ({"x": np.where(GREY > 200, np.nan, 0.5), "y": LABELS}, CorruptError, "expected finite pixels"),
        ({"x": np.full(GREY.shape, 1e300), "y": LABELS}, CorruptError, "expected finite pixels, .* in image 0"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY / 255, "y_test": LABELS}, UsageError, "float32 and uint8"),
    ],
)
def test_what_is_not_as_promised_is_refused(archive, arrays, error, says):
    with pytest.raises(error, match=f"data.npz.*{says}"):
        read_npz(archive(**arrays))


def test_rows_of_numbers_labels_of_every_kind_and_none(archive):
    rows = RNG.normal(size=(6, 4))
    values, each_pixel = RNG.normal(size=(6, 2)), RNG.integers(0, 3, GREY.shape)
    for inputs, labels, dtype in ((rows, values, np.float32), (GREY, each_pixel, np.int64), (rows, LABELS, np.int64)):
        part = read_npz(archive(x=inputs, y=labels)).train
        np.testing.assert_array_equal(part.labels, labels.astype(dtype))
        assert part.labels.dtype == dtype
    np.testing.assert_array_equal(part.inputs, rows.astype(np.float32))
    unlabelled = read_npz(archive(x=GREY, x_test=GREY[:2]))
    assert unlabelled.kind == "none" and unlabelled.classes == 0 and unlabelled.train.labels.shape == (6, 0)
    assert unlabelled.test is not None and len(unlabelled.test) == 2


class Bomb:
    """Unpickling this would fail the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_python_objects_are_never_loaded(tmp_path):
    objects = np.empty(6, object)
    objects[:] = [Bomb()] * 6
    np.savez(tmp_path / "data.npz", x=objects, y=LABELS)
    with pytest.raises(CorruptError, match="x: holds Python objects, which could run code and are refused"):
        read_npz(tmp_path / "data.npz")


def test_a_pickle_or_an_npy_in_its_place_is_no_archive(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CorruptError, match=r"expected a NumPy .npz archive"):
        read_npz(path)
    with path.open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(CorruptError, match=r"expected a NumPy .npz archive"):
        read_npz(path)


def test_an_absent_file_is_an_input_error(tmp_path):
    with pytest.raises(InputOutputError, match=r"none.npz: expected a readable file, got: No such file"):
        read_npz(tmp_path / "none.npz")


def member(header: bytes, payload: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + payload


@pytest.mark.parametrize(
    "npy",
    [
        member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 28, 28)}\n"),
        member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28)}\n"),
        member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 1)}\n", b"\1"),
        member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 1)}\n", b"\1\1\1"),
        member(b"__import__('os')\n"),
        b"\x93NUMPY\x03\x00",
        b"",
    ],
    ids=["huge", "negative", "short", "long", "code", "version", "empty"],
)
def test_a_header_is_not_believed(tmp_path, npy):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", npy)
        archive.writestr("y.npy", npy)
    with pytest.raises(CorruptError, match=r"data.npz: x: "):
        read_npz(tmp_path / "data.npz")


def test_a_member_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "data.npz", x=GREY, y=LABELS)
    monkeypatch.setattr("os.sysconf", lambda _: 1)
    with pytest.raises(UsageError, match="expected data that fits in memory"):
        read_npz(tmp_path / "data.npz")


WHOLE = io.BytesIO()
np.savez_compressed(WHOLE, x=GREY, y=LABELS)


@example([(WHOLE.getvalue().rindex(b"PK\x05\x06") + 17, 2)])  # the directory lies before the file's start
@given(st.lists(st.tuples(st.integers(0, len(WHOLE.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_refused_or_change_nothing(tmp_path_factory, changes):
    data = bytearray(WHOLE.getvalue())
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    path.write_bytes(data)
    try:
        source = read_npz(path)
    except (CorruptError, UsageError):
        return
    np.testing.assert_array_equal(source.train.inputs[:, 0], GREY)
    np.testing.assert_array_equal(source.train.labels, LABELS)
