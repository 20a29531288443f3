"""How a network is fed, written down: from the file alone, new inputs become the bits that a run was fed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparsify
from sparsify.data.load import load
from sparsify.data.preprocessing import Preprocessing, preprocessing
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.recipe.spec import DataSpec, MomentsSpec


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of mixed sizes in a train and a test folder, so that nothing is drawn."""
    drawn = np.random.default_rng(0)
    for number in range(12):
        width, height = drawn.integers(20, 60, 2)
        part = ("train", "val", "test")[number % 3]
        file = tmp_path / f"photos/{part}/{'ab'[number // 3 % 2]}/{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (height, width, 3), np.uint8)).save(file)
    return tmp_path / "photos"


def spec(photos: Path, **fields: object) -> DataSpec:
    return DataSpec.model_validate({"source": f"image-folder:{photos}", "image_size": 16, **fields})


HOW = [
    {},
    {"normalize": "imagenet", "resize": 20},
    {"normalize": "unit", "fit": "squash", "interpolation": "bicubic"},
    {"normalize": MomentsSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.7)), "resize": 19},
    {"colour": "grey"},
]


@pytest.mark.parametrize("fields", HOW, ids=str)
def test_photos_become_the_bits_that_the_run_was_fed(photos: Path, tmp_path: Path, fields: dict[str, object]):
    data = load(spec(photos, **fields), trained=True)
    assert data.preprocessing is not None
    data.preprocessing.save(tmp_path)
    prepare = preprocessing(tmp_path)
    assert prepare == data.preprocessing and prepare.labels == ("a", "b")
    files = sorted((photos / "test").glob("*/*.png"))
    assert torch.equal(prepare(*files), data.test.inputs(slice(None)))
    assert torch.equal(prepare(*map(str, files)), prepare(*map(Image.open, files)))


def test_the_file_is_enough_to_do_it_by_hand(photos: Path, tmp_path: Path):
    """By Pillow and NumPy, from what the file says and nothing else."""
    data = load(spec(photos, resize=20), trained=True)
    assert data.preprocessing is not None
    data.preprocessing.save(tmp_path)
    said = json.loads((tmp_path / "preprocessing.json").read_text())
    assert (said["kind"], said["layout"], said["dtype"], said["colour"]) == ("pictures", "NCHW", "float32", "rgb")
    assert said["white"] == 255 and said["shape"] == [3, 16, 16] and said["labels"] == ["a", "b"]
    file = min((photos / "test").glob("*/*.png"))
    picture = Image.open(file)
    longer = int(said["resize"] * max(picture.size) / min(picture.size))
    sides = [said["resize"] if side == min(picture.size) else longer for side in picture.size]
    resized = picture.resize(sides, Image.Resampling[said["interpolation"].upper()])
    left, top = (round((side - 16) / 2) for side in resized.size)
    pixels = np.asarray(resized.crop((left, top, left + 16, top + 16)), float)
    values = (pixels - said["mean"]) / said["std"]
    np.testing.assert_allclose(data.test.inputs(slice(1))[0], np.moveaxis(values, 2, 0), atol=1e-5)


def test_arrays_are_scaled_as_the_run_s_were(tmp_path: Path):
    drawn = np.random.default_rng(0)
    x, y = drawn.integers(0, 256, (12, 3, 4, 4), np.uint8), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_val=x, y_val=y, x_test=x, y_test=y)
    data = load(DataSpec(source=f"npz:{tmp_path}/a.npz"))
    assert data.preprocessing is not None and data.preprocessing.kind == "arrays"
    assert torch.equal(data.preprocessing(*x), data.test.images)
    rows = drawn.normal(size=(12, 5)).astype(np.float32)
    np.savez(tmp_path / "b.npz", x_train=rows, y_train=y, x_val=rows, y_val=y, x_test=rows, y_test=y)
    frames = load(DataSpec(source=f"npz:{tmp_path}/b.npz"), trained=True)
    assert frames.preprocessing is not None and frames.preprocessing.to_json()["layout"] == "NC"
    assert torch.equal(frames.preprocessing(*rows), frames.test.images)


def test_texts_are_tokenized_as_the_run_s_were(tmp_path: Path):
    pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("datasets")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: number for number, word in enumerate(["[UNK]", "dead", "weight", "alive"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["dead weight", "alive", "dead dead weight alive", "weight"] * 3
    rows = datasets.Dataset.from_dict({"text": texts, "label": [0, 1] * 6})
    datasets.DatasetDict(train=rows, validation=rows, test=rows).save_to_disk(tmp_path / "texts")
    source = DataSpec(source=f"hf-dataset:{tmp_path}/texts", tokenizer=str(tmp_path), max_tokens=3)
    data = load(source, trained=True)
    assert data.preprocessing is not None and data.preprocessing.to_json()["dtype"] == "int64"
    assert torch.equal(data.preprocessing(*texts), data.test.images)
    assert "texts of 3 tokens" in data.preprocessing.told


def test_a_run_s_folder_stands_for_its_model(tmp_path: Path):
    known = Preprocessing("arrays", (2,), (0.0, 1.0), (1.0, 2.0))
    (tmp_path / "run/model").mkdir(parents=True)
    known.save(tmp_path / "run/model")
    assert sparsify.preprocessing(tmp_path / "run") == sparsify.preprocessing(str(tmp_path / "run/model")) == known


def test_a_folder_that_does_not_say_or_says_nonsense_is_refused(tmp_path: Path):
    with pytest.raises(InputOutputError, match=r"preprocessing.json: expected how the network is fed"):
        preprocessing(tmp_path)
    whole = Preprocessing("arrays", (2,), (0.0, 1.0), (1.0, 2.0)).to_json()
    for change in ({"format": 99}, {"kind": "code"}, {"mean": None}):
        (tmp_path / "preprocessing.json").write_text(json.dumps(whole | change))
        with pytest.raises(CorruptError, match="expected how the network is fed, got damage"):
            preprocessing(tmp_path)
    for text in ("{", "[]", json.dumps({"format": 1})):
        (tmp_path / "preprocessing.json").write_text(text)
        with pytest.raises(CorruptError):
            preprocessing(tmp_path)


def test_inputs_of_another_kind_or_shape_are_refused(photos: Path):
    arrays = Preprocessing("arrays", (2,), (0.0, 1.0), (1.0, 2.0))
    with pytest.raises(UsageError, match=r"expected inputs of shape \(2,\), got \(3,\)"):
        arrays(np.zeros(3))
    with pytest.raises(UsageError, match="expected one of arrays at least, got none"):
        arrays()
    with pytest.raises(UsageError, match="expected a tokenizer for texts, got none"):
        Preprocessing("texts", (2, 4))("dead weight")


def test_what_it_tells_is_one_line():
    shown = Preprocessing(
        "pictures", (3, 224, 224), (127.5,) * 3, (51.0, 52.0, 53.0), 255.0, "rgb", 256, "crop", "bicubic"
    )
    assert shown.told == (
        "pictures, rgb, shorter side to 256 (bicubic), centre 3x224x224, (value - 127.5) / [51 52 53] of pixels 0 to "
        "255"
    )
