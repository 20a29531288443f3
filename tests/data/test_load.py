"""Loading as a whole: parts apart, tensors as promised, scaled by training statistics, errors with their mend."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sparsify.data.load import Data, load
from sparsify.errors import InputOutputError, UsageError
from sparsify.recipe.spec import DataSpec


def digits(**fields) -> Data:
    return load(DataSpec(source="digits", **fields))


def rows(part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


def test_digits_are_tensors_a_network_can_take():
    data = digits(validation=0.2, test=0.25)
    assert (data.input_shape, data.classes) == ((1, 8, 8), 10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1078, 270, 449]
    for part in (data.train, data.validation, data.test):
        assert part.images.dtype == torch.float32 and part.labels.dtype == torch.int64
        assert part.images.is_contiguous() and part.images.shape == (len(part), 1, 8, 8)
        assert set(part.labels.tolist()) == set(range(10))


def test_parts_are_disjoint_and_together_the_whole():
    """All digits differ as images, so images themselves tell whether any is in two parts."""
    data = digits(normalize="unit")
    parts = [rows(part) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_equal_specs_load_equal_bits_and_leave_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two = digits(), digits()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.train.images, two.train.images) and torch.equal(one.test.labels, two.test.labels)
    assert not torch.equal(one.train.images, digits(split_seed=1).train.images)


def test_standard_scaling_is_fitted_to_the_training_part_alone():
    data, raw = digits(), digits(normalize="unit")
    mean, deviation = raw.train.images.double().mean(), raw.train.images.double().std(correction=0)
    assert data.train.images.double().mean().abs() < 1e-6
    assert data.train.images.double().std(correction=0) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(
        data.test.images.double(), (raw.test.images.double() - mean) / deviation, atol=1e-5, rtol=0
    )
    assert raw.train.images.min() == 0 and raw.train.images.max() == 1


def save(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.fixture
def twenty():
    return {"x": np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2), "y": np.arange(20) % 2}


def test_a_source_with_its_own_test_set_keeps_it(tmp_path, twenty):
    x, y = twenty["x"], twenty["y"]
    source = save(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:3] + 100, y_test=y[:3])
    data = load(DataSpec(source=source, validation=0.25, test=0.5, normalize="unit"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [15, 5, 3]
    np.testing.assert_allclose(data.test.images[:, 0] * 255, x[:3] + 100, rtol=1e-6)


def test_a_source_with_its_own_validation_set_keeps_it(tmp_path, twenty):
    x, y = twenty["x"], twenty["y"]
    source = save(tmp_path / "a.npz", x_train=x, y_train=y, x_val=x[:2] + 100, y_val=y[:2])
    data = load(DataSpec(source=source, validation=0.25, test=0.5))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 2, 10]


def test_an_image_folder_loads_with_the_names_of_its_classes(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for at in range(5):
            Image.fromarray(np.full((6, 9, 3), 100 * label + at, np.uint8)).save(tmp_path / name / f"{at}.png")
    data = load(DataSpec(source=f"image-folder:{tmp_path}", validation=0.2, test=0.2, image_size=4))
    assert (data.input_shape, data.class_names, len(data.train)) == ((3, 4, 4), ("ant", "bee"), 6)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(20) % 2 + 1, "labels 0 to classes - 1.* got 1, 2; renumber them"),
        (np.arange(20) % 2 * 2, "got 0, 2; renumber"),
        (np.zeros(20, int), "got 0; renumber"),
        (np.arange(20) - 1, r"got -1, 0, 1, 2, 3, 4, 5, 6, ... 18; renumber"),
        (np.arange(20) * 10**12, "got 0, 1000000000000"),
    ],
)
def test_labels_are_0_to_classes_minus_1(tmp_path, twenty, labels, says):
    with pytest.raises(UsageError, match=says):
        load(DataSpec(source=save(tmp_path / "a.npz", x=twenty["x"], y=labels)))


@pytest.mark.parametrize(
    ("test", "says"),
    [
        (
            {"x_test": np.zeros((2, 2, 2), np.uint8), "y_test": [0, 2]},
            "test holds label 2, which no training image has",
        ),
        (
            {"x_test": np.zeros((2, 2, 3), np.uint8), "y_test": [0, 1]},
            r"test images of .* \(1, 2, 2\), got \(1, 2, 3\)",
        ),
        ({"x_test": np.zeros((0, 2, 2), np.uint8), "y_test": np.zeros(0, int)}, "expected test images, got none"),
    ],
)
def test_a_test_set_that_does_not_belong_is_refused(tmp_path, twenty, test, says):
    with pytest.raises(UsageError, match=says):
        load(DataSpec(source=save(tmp_path / "a.npz", **twenty, **test)))


def test_what_cannot_be_loaded_says_why(tmp_path):
    with pytest.raises(UsageError, match=r"data.source: expected a dataset's name .* did you mean digits"):
        load(DataSpec(source="digit"))
    with pytest.raises(UsageError, match=r"data.image_size is for image-folder.*remove data.image_size"):
        digits(image_size=8)
    with pytest.raises(InputOutputError, match=r"none.npz"):
        load(DataSpec(source=f"npz:{tmp_path}/none.npz"))
    with pytest.raises(UsageError, match="expected training images, got none"):
        load(DataSpec(source=save(tmp_path / "a.npz", x=np.zeros((0, 2, 2), np.uint8), y=np.zeros(0, int))))
    with pytest.raises(UsageError, match=r"data.validation = 0.0001 of 1438 images is 0"):
        digits(validation=0.0001)


def test_a_classifier_is_not_trained_on_other_labels_and_a_trained_network_takes_them(tmp_path, twenty):
    x = twenty["x"]
    for labels, says, classes in (
        (np.linspace(0, 1, 20), "got values of shape", 1),
        (np.zeros((20, 3)), r"got values of shape \(3,\)", 3),
        (np.zeros((20, 2, 2), int), r"got classes for each position of shape \(2, 2\)", 1),
        (np.arange(20) * 3, "expected training labels 0 to classes - 1", 58),
    ):
        spec = DataSpec(source=save(tmp_path / "a.npz", x=x, y=labels))
        with pytest.raises(UsageError, match=says):
            load(spec)
        data = load(spec, trained=True)
        assert data.labelled and data.classes == classes and len(data.train) == 15
        assert data.train.labels.shape[1:] == labels.shape[1:]


def test_unlabelled_data_says_so(tmp_path, twenty):
    spec = DataSpec(source=save(tmp_path / "a.npz", x=twenty["x"]))
    with pytest.raises(UsageError, match="expected images with one class each to train a classifier on, got no labels"):
        load(spec)
    data = load(spec, trained=True)
    assert not data.labelled and data.classes == 0
    assert [len(part) for part in (data.train, data.validation, data.test)] == [15, 1, 4]
    assert data.train.labels.shape == (15, 0)


def test_parts_have_one_kind_of_labels(tmp_path, twenty):
    source = save(tmp_path / "a.npz", x_train=twenty["x"], y_train=twenty["y"], x_test=twenty["x"])
    says = r"expected test labels like the training labels \(one class each\), got no labels"
    with pytest.raises(UsageError, match=says):
        load(DataSpec(source=source), trained=True)


@pytest.mark.parametrize("labels", [np.arange(20) - 1, np.full(20, -1)])
def test_a_trained_networks_labels_are_positions_among_its_outputs(tmp_path, twenty, labels):
    with pytest.raises(UsageError, match="expected labels from 0, got -1"):
        load(DataSpec(source=save(tmp_path / "a.npz", x=twenty["x"], y=labels)), trained=True)


def test_texts_are_ids_and_mask_untouched_by_scaling(tmp_path):
    ids = np.arange(60).reshape(20, 3)
    np.savez(tmp_path / "a.npz", ids=ids, mask=np.ones_like(ids), labels=np.arange(20) % 2)
    spec = DataSpec(source=f"tokens:{tmp_path}/a.npz")
    with pytest.raises(UsageError, match="to train a classifier on, got texts"):
        load(spec)
    data = load(spec, trained=True)
    assert data.input_shape == (2, 3) and data.train.images.dtype == torch.int64
    parts = torch.cat([part.images[:, 0] for part in (data.train, data.validation, data.test)])
    assert sorted(parts.flatten().tolist()) == list(range(60))


def test_a_tokenizer_is_for_text():
    with pytest.raises(UsageError, match=r"data.tokenizer is for the text of an hf-dataset.*remove data.tokenizer"):
        digits(tokenizer="folder")


def test_digits_load_without_importing_scikit_learn():
    """Its import would cost every worker process over a second."""
    code = """
import sys
from sparsify.data.load import load
from sparsify.recipe.spec import DataSpec
load(DataSpec(source="digits"))
sys.exit("sklearn" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("normalize", ["standard", "unit", "imagenet", "none"])
def test_pictures_are_held_as_bytes_and_become_the_same_bits_batch_by_batch(tmp_path, normalize):
    """Against the same pictures as arrays, which are scaled whole; and the network is told nothing of it."""
    drawn = np.random.default_rng(0)
    for number in range(20):
        file = tmp_path / f"photos/{'ab'[number % 2]}/{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (5, 7, 3), np.uint8)).save(file)
    data = load(DataSpec(source=f"image-folder:{tmp_path}/photos", normalize=normalize))
    assert data.train.images.dtype == torch.uint8
    parts = {"train": data.train, "val": data.validation, "test": data.test}
    arrays = {f"x_{name}": part.images.numpy() for name, part in parts.items()}
    labels = {f"y_{name}": part.labels.numpy() for name, part in parts.items()}
    whole = load(DataSpec(source=save(tmp_path / "a.npz", **arrays, **labels), normalize=normalize), trained=True)
    for ours, theirs in ((data.train, whole.train), (data.validation, whole.validation), (data.test, whole.test)):
        assert theirs.scaling is None and theirs.images.dtype == torch.float32
        assert torch.equal(ours.inputs(slice(None)), theirs.images)
        assert torch.equal(ours.inputs(torch.tensor([len(ours) - 1, 0])), theirs.images[[len(ours) - 1, 0]])
        found = list(ours.batches(3))
        assert torch.equal(torch.cat([images for images, _ in found]), theirs.images)
        assert torch.equal(torch.cat([labels for _, labels in found]), ours.labels)
        assert max(len(images) for images, _ in found) <= 3
