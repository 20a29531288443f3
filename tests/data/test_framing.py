"""Pictures resized and cropped: against torchvision's own transforms and timm's, on pictures of many proportions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sparsify.data.framing import Framing, framing_of
from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec

SIZES = [(40, 40), (41, 63), (97, 30), (24, 24), (25, 70), (160, 33), (7, 5)]


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("crop", "resize"), [(24, 24), (24, 27), (21, 32)])
def test_pixels_are_torchvision_s(size, interpolation, crop, resize):
    pytest.importorskip("torchvision_schemas")
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    expected = transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop(crop)])(picture(size))
    found = Framing(crop, resize, interpolation=interpolation).apply(picture(size))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("mode", "share"), [("squash", 1.0), ("squash", 0.9), ("center", 0.875)])
def test_pixels_are_timm_s(size, mode, share):
    pytest.importorskip("torchvision_schemas")
    data = pytest.importorskip("timm.data")
    timm_s = data.create_transform(
        (3, 24, 24), interpolation="bicubic", crop_pct=share, crop_mode=mode, normalize=False, is_training=False
    )
    found = Framing(24, int(24 / share), squash=mode == "squash", interpolation="bicubic").apply(picture(size))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found), 2, 0), timm_s(picture(size)).numpy())


def test_a_recipe_s_size_alone_is_resized_to_and_cropped():
    assert framing_of(DataSpec(source="image-folder:a")) is None
    assert framing_of(DataSpec(source="image-folder:a", image_size=8)) == Framing(8, 8)
    spec = DataSpec(source="image-folder:a", image_size=8, resize=9, fit="squash", interpolation="bicubic")
    assert framing_of(spec) == Framing(8, 9, squash=True, interpolation="bicubic")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"resize": 8}, "data.resize: expected data.image_size beside it, got none; .* --image-size 224"),
        ({"fit": "squash"}, "data.fit: expected data.image_size beside it"),
        ({"image_size": 9, "resize": 8}, "data.resize: expected at least data.image_size, 9, .* got 8"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        framing_of(DataSpec(source="image-folder:a", **fields))
