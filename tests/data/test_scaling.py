"""Scaling against NumPy's own statistics in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsify.data.scaling import fit_scaling
from sparsify.errors import UsageError
from sparsify.recipe.spec import MomentsSpec

IMAGES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 4), st.integers(1, 4))


@given(IMAGES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_standard_bytes_have_mean_0_and_deviation_1_per_channel(pixels):
    scaled = fit_scaling("x", pixels, white=255, how="standard").apply(pixels)
    assert scaled.dtype == np.float32
    for channel in range(pixels.shape[1]):
        raw, got = pixels[:, channel].astype(np.float64), scaled[:, channel]
        spread = raw.std()
        np.testing.assert_allclose(got, (raw - raw.mean()) / (spread or 255), atol=1e-4)


def test_many_chunks_of_bytes_and_of_floats_agree():
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3, 2, 2), np.uint8)
    of_bytes = fit_scaling("x", pixels, white=255, how="standard")
    of_floats = fit_scaling("x", (pixels / np.float32(255)), white=1, how="standard")
    np.testing.assert_allclose(of_bytes.std, np.array(of_floats.std) * 255, rtol=1e-6)
    np.testing.assert_allclose(of_bytes.mean, np.array(of_floats.mean) * 255, rtol=1e-6)
    np.testing.assert_allclose(of_bytes.std, pixels.astype(float).std(axis=(0, 2, 3)), rtol=1e-12)


def test_unit_takes_white_to_one():
    pixels = np.array([[[[0, 8, 16]]]], np.uint8)
    np.testing.assert_allclose(fit_scaling("x", pixels, white=16, how="unit").apply(pixels), [[[[0, 0.5, 1]]]])


def test_other_parts_are_scaled_by_the_training_statistics():
    scaling = fit_scaling("x", np.array([0.0, 2.0], np.float32).reshape(2, 1, 1, 1), white=1, how="standard")
    np.testing.assert_allclose(scaling.apply(np.full((1, 1, 1, 1), 5, np.float32)), [[[[4.0]]]])


def test_a_channel_that_never_varies_is_zero_and_finite():
    pixels = np.full((3, 1, 2, 2), 7, np.uint8)
    assert not fit_scaling("x", pixels, white=255, how="standard").apply(pixels).any()


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_unit_of_floats_outside_0_to_1_is_refused(value):
    with pytest.raises(
        UsageError, match=r"x: data.normalize = unit expects float images in \[0, 1\].*normalize: standard"
    ):
        fit_scaling("x", np.full((1, 1, 1, 1), value, np.float32), white=1, how="unit")


def test_imagenet_is_what_its_networks_are_trained_with():
    """The oracle: the numbers torchvision documents, of an image in [0, 1]."""
    pixels = np.array([0, 128, 255], np.uint8).reshape(1, 3, 1, 1)
    scaled = fit_scaling("x", pixels, white=255, how="imagenet").apply(pixels).ravel()
    expected = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    with pytest.raises(UsageError, match="imagenet expects images of 3 channels"):
        fit_scaling("x", pixels[:, :1], white=255, how="imagenet")


def test_none_leaves_values_as_they_are_and_rows_are_scaled_by_column():
    rows = np.array([[0.0, -5.0], [4.0, -5.0]], np.float32)
    np.testing.assert_array_equal(fit_scaling("x", rows, white=1, how="none").apply(rows), rows)
    np.testing.assert_allclose(fit_scaling("x", rows, white=1, how="standard").apply(rows), [[-1, 0], [1, 0]])


def test_a_mean_and_a_std_are_of_pixels_between_0_and_1():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2), np.uint8)
    how = MomentsSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.5, 1.0))
    expected = (pixels / 255 - np.reshape(how.mean, (3, 1, 1))) / np.reshape(how.std, (3, 1, 1))
    np.testing.assert_allclose(fit_scaling("x", pixels, white=255, how=how).apply(pixels), expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"expected a mean and a std for each of 1 channels, got 3 and 3; data.colour"):
        fit_scaling("x", pixels[:, :1], white=255, how=how)
