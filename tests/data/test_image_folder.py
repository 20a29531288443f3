"""Folders of pictures: layout, order, size, colour; and pictures that cannot be read name themselves."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sparsify.data.folder import brings_classes, list_folder
from sparsify.data.framing import Framing
from sparsify.data.image_folder import read_image_folder
from sparsify.errors import CorruptError, InputOutputError, UsageError


def picture(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def flat(value, *, size=(4, 6), colour=False):
    return np.full((*size, 3) if colour else size, value)


@pytest.fixture
def pets(tmp_path):
    for name, value in (("cat/b.png", 1), ("cat/a.png", 2), ("cat/deep/c.png", 3), ("ant/z.PNG", 4)):
        picture(tmp_path / name, flat(value))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    return tmp_path


def test_classes_are_folders_in_order_of_name(pets):
    source = read_image_folder(pets, framing=None)
    assert source.class_names == ("ant", "cat") and source.classes == 2
    assert source.train.labels.tolist() == [0, 1, 1, 1]
    assert source.train.inputs.shape == (4, 1, 4, 6)
    assert source.train.inputs[:, 0, 0, 0].tolist() == [4, 2, 1, 3]
    assert source.validation is None and source.test is None


def test_pictures_alone_are_without_labels(tmp_path):
    for name, value in (("b.png", 1), ("a.png", 2)):
        picture(tmp_path / name, flat(value))
    source = read_image_folder(tmp_path, framing=None)
    assert source.kind == "none" and source.classes == 0 and source.class_names == ()
    assert source.train.inputs[:, 0, 0, 0].tolist() == [2, 1]
    assert list_folder(tmp_path).files() == [tmp_path / "a.png", tmp_path / "b.png"]


def test_parts_are_folders_too(tmp_path):
    for at, part in enumerate(("train", "val", "test")):
        for label, name in enumerate(("a", "b")):
            picture(tmp_path / part / name / "1.png", flat(10 * at + label))
    source = read_image_folder(tmp_path, framing=None)
    parts = (source.train, source.validation, source.test)
    assert [part.inputs[:, 0, 0, 0].tolist() for part in parts if part] == [[0, 1], [10, 11], [20, 21]]


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev"])
def test_parts_may_hold_pictures_without_classes(tmp_path, validation):
    for at, part in enumerate(("train", validation, "test")):
        for name in ("b", "a"):
            picture(tmp_path / part / f"{name}.jpg", flat(100 * at))
    source = read_image_folder(tmp_path, framing=None)
    parts = (source.train, source.validation, source.test)
    assert [part.inputs[:, 0, 0, 0].tolist() for part in parts if part] == [[0, 0], [100, 100], [200, 200]]
    assert source.kind == "none" and source.class_names == () and not brings_classes(tmp_path)
    (tmp_path / "train" / "a").mkdir()
    (tmp_path / "train" / "b").mkdir()
    assert brings_classes(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("val/1.png", "test/1.png"), "expected train/ and, .* got test, val; rename"),
        (("Train/1.png", "Test/1.png"), "expected train/ and, .* got Test, Train; rename"),
        (("train/a/1.png", "train/b/1.png", "training/a/1.png"), "got train, training; rename"),
        (("train/1.png", "val/1.png", "valid/1.png"), "got train, val, valid; rename"),
        (("train/1.png", "test/a/1.png"), "test: expected pictures and no folders, as without classes in train/, got"),
        (("train/1.png", "test/1.txt"), "test: expected pictures and no folders, .* got none"),
    ],
)
def test_a_folder_called_like_a_part_never_becomes_a_class_in_silence(tmp_path, files, message):
    for name in files:
        if name.endswith("txt"):
            (tmp_path / name).parent.mkdir()
        else:
            picture(tmp_path / name, flat(1))
    with pytest.raises(UsageError, match=message):
        list_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "plane"):
        picture(tmp_path / name / "1.png", flat(1))
    assert list_folder(tmp_path).class_names == ("plane", "train")


def test_a_test_class_that_training_lacks_is_refused(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        picture(tmp_path / name / "1.png", flat(1))
    with pytest.raises(UsageError, match="test: class 'c' is not among those in train: a, b"):
        list_folder(tmp_path)


def test_one_coloured_picture_makes_all_of_them_three_channels(pets):
    picture(pets / "ant" / "colour.png", np.array([[[9, 8, 7]] * 6] * 4))
    pixels = read_image_folder(pets, framing=None).train.inputs
    assert pixels.shape == (5, 3, 4, 6)
    assert pixels[0, :, 0, 0].tolist() == [9, 8, 7]
    assert pixels[1, :, 0, 0].tolist() == [4, 4, 4]


def test_channels_are_as_asked_whatever_the_pictures_are(pets):
    picture(pets / "ant" / "colour.png", np.array([[[9, 9, 9]] * 6] * 4))
    assert read_image_folder(pets, framing=None, channels=1).train.inputs[0, :, 0, 0].tolist() == [9]
    (pets / "ant" / "colour.png").unlink()
    assert read_image_folder(pets, framing=None, channels=3).train.inputs[0, :, 0, 0].tolist() == [4, 4, 4]


def test_the_shorter_side_is_resized_and_the_middle_cropped(tmp_path):
    """Three vertical bands, 20 of 60 pixels each: the middle third is all that is left."""
    bands = np.repeat(np.repeat([[10, 200, 90]], 20, axis=1), 20, axis=0)
    picture(tmp_path / "a" / "wide.png", bands)
    picture(tmp_path / "b" / "tall.png", bands.T)
    pixels = read_image_folder(tmp_path, framing=Framing(10, 10)).train.inputs
    assert pixels.shape == (2, 1, 10, 10)
    assert (pixels[:, 0, 1:-1, 1:-1] == 200).all()
    np.testing.assert_array_equal(pixels[0, 0], pixels[1, 0].T)


def test_small_pictures_are_enlarged(pets):
    assert read_image_folder(pets, framing=Framing(9, 9)).train.inputs.shape == (4, 1, 9, 9)


def test_different_sizes_without_image_size_are_refused(pets):
    picture(pets / "cat" / "d.png", flat(1, size=(5, 6)))
    with pytest.raises(
        UsageError, match=r"d.png: expected 6x4 pixels as in .*z.PNG, got 6x5; set data.image_size .* --image-size 224"
    ):
        read_image_folder(pets, framing=None)


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture(tmp_path / "a" / "1.png", np.array([[1, 2, 3], [4, 5, 6]]), exif=exif)
    picture(tmp_path / "b" / "1.png", flat(0, size=(3, 2)))
    pixels = read_image_folder(tmp_path, framing=None).train.inputs
    assert pixels[0, 0].tolist() == [[4, 1], [5, 2], [6, 3]]


def test_palettes_and_transparency_become_plain_colours(tmp_path):
    picture(tmp_path / "a" / "1.png", np.array([[[9, 8, 7, 128]] * 2] * 2))
    (tmp_path / "b").mkdir()
    paletted = Image.fromarray(np.array([[[1, 2, 3]] * 2] * 2, np.uint8)).quantize(4)
    paletted.save(tmp_path / "b" / "1.png", transparency=bytes([0, 255]))
    pixels = read_image_folder(tmp_path, framing=None).train.inputs
    assert pixels[:, :, 0, 0].tolist() == [[9, 8, 7], [1, 2, 3]]


def test_sixteen_bits_are_refused_rather_than_clipped(pets):
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(pets / "cat" / "deep.png")
    with pytest.raises(UsageError, match=r"deep.png: expected 8 bits a channel, got mode I;16"):
        read_image_folder(pets, framing=None)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_000, 60_000], ids=["warned of by Pillow", "refused by Pillow"])
def test_a_decompression_bomb_is_refused_from_its_header(pets, side):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    (pets / "cat" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b""))
    with pytest.raises(CorruptError, match=r"bomb.png: .* decompression bomb"):
        read_image_folder(pets, framing=Framing(4, 4))


@pytest.mark.parametrize("kept", [0, 10, 60, -30])
def test_a_damaged_picture_is_named(pets, kept):
    noise = np.random.default_rng(0).integers(0, 256, (4, 6))
    picture(pets / "cat" / "damaged.png", noise)
    whole = (pets / "cat" / "damaged.png").read_bytes()
    (pets / "cat" / "damaged.png").write_bytes(whole[:kept])
    with pytest.raises(CorruptError, match=r"damaged.png: expected a picture"):
        read_image_folder(pets, framing=Framing(4, 4))


def test_random_damage_is_a_corrupt_error_or_another_picture(pets):
    """Every byte of a PNG and a JPEG changed in turn, which no decoder's private exception may escape."""
    for suffix in ("png", "jpg"):
        file = pets / "cat" / f"damaged.{suffix}"
        picture(file, np.random.default_rng(0).integers(0, 256, (4, 6)))
        whole = file.read_bytes()
        for at in range(0, len(whole), 5):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            try:
                read_image_folder(pets, framing=Framing(4, 4))
            except (CorruptError, UsageError) as error:
                assert file.name in str(error)
        file.unlink()


def test_a_broken_link_is_an_input_error(pets):
    (pets / "cat" / "link.png").symlink_to(pets / "nowhere.png")
    with pytest.raises(InputOutputError, match=r"link.png: expected a readable picture, got: No such file"):
        read_image_folder(pets, framing=None)


def test_folders_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(InputOutputError, match="none: expected a folder of pictures, got nothing"):
        list_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputOutputError, match="got a file"):
        list_folder(tmp_path / "file")
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="expected at least two folders, one a class, got 1"):
        list_folder(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match=r"a: expected pictures \(.bmp .* got none"):
        list_folder(tmp_path)


def test_more_than_memory_is_refused_before_it_is_decoded(pets, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _: 1)
    with pytest.raises(UsageError, match="expected data that fits in memory"):
        read_image_folder(pets, framing=None)
