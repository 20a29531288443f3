"""What the recipe leaves open of pictures: against the library's own transforms, applied to pictures of mixed sizes."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchvision_schemas")
models: Any = pytest.importorskip("torchvision.models", reason="pip install torchvision")
timm: Any = pytest.importorskip("timm", reason="pip install timm")
transformers: Any = pytest.importorskip("transformers", reason="pip install transformers")

from sparsify.data.load import load  # noqa: E402
from sparsify.errors import CorruptError, UsageError  # noqa: E402
from sparsify.models.sources import open_source  # noqa: E402
from sparsify.pipeline.names import load_checked_prune  # noqa: E402
from sparsify.pipeline.prune_inputs import with_known_input  # noqa: E402
from sparsify.recipe.prune_recipe import PruneRecipe  # noqa: E402


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object):
        raise AssertionError(f"tried to reach {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of as many sizes, two of them grey."""
    root, drawn = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(12):
        width, height = drawn.integers(30, 90, 2)
        shape = (height, width) if number % 6 == 0 else (height, width, 3)
        file = root / f"{'ab'[number % 2]}/{number:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, shape, np.uint8)).save(file)
    return root


def recipe_of(model: str, source: str, weights: str | None = "a.pth", **data: object) -> PruneRecipe:
    tree = {
        "kind": "prune",
        "name": "a",
        "trained": {"model": model, "weights": weights},
        "data": {"source": source, "validation": 0.25, "test": 0.25, **data},
        "target": {"sparsity": 0.5},
    }
    return load_checked_prune(json.dumps(tree), "a")


def inputs(recipe: PruneRecipe) -> set[bytes]:
    """Every picture as the network is fed it, rounded, in no order."""
    data = load(recipe.data, trained=True)
    images = torch.cat([part.inputs(slice(None)) for part in (data.train, data.validation, data.test)])
    return {rounded(image) for image in images}


def rounded(image: torch.Tensor) -> bytes:
    return (image * 1000).round().int().numpy().tobytes()


def expected(photos: Path, transform: Any) -> set[bytes]:
    return {rounded(transform(Image.open(file).convert("RGB"))) for file in sorted(photos.glob("*/*.png"))}


def agree(found: set[bytes], wanted: set[bytes]) -> bool:
    """Each picture has one within a thousandth of it."""
    ours, theirs = (
        np.stack([np.frombuffer(one, np.int32) for one in group]).astype(np.int64) for group in (found, wanted)
    )
    gaps = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    return len(ours) == len(theirs) and bool((gaps.min(axis=0) <= 1).all() and (gaps.min(axis=1) <= 1).all())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "swin_t"])
def test_a_folder_of_photos_is_fed_as_torchvision_would(photos: Path, name: str):
    recipe, told = with_known_input(recipe_of(f"torchvision:{name}", f"image-folder:{photos}"))
    assert agree(inputs(recipe), expected(photos, models.get_model_weights(name).DEFAULT.transforms()))
    assert told.startswith("data: pictures as torchvision's IMAGENET1K_V1 has them (image_size, resize, fit")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_resnet", "mobilenetv3_small_050"])
def test_a_folder_of_photos_is_fed_as_timm_would(photos: Path, name: str):
    recipe, told = with_known_input(recipe_of(f"timm:{name}", f"image-folder:{photos}"))
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    assert agree(inputs(recipe), expected(photos, timm.data.create_transform(**config)))
    assert f"centre {config['input_size'][1]}x{config['input_size'][2]}, rgb" in told


def test_timm_s_squash_is_one_too(photos: Path):
    name = "coat_lite_medium_384"
    recipe, _ = with_known_input(recipe_of(f"timm:{name}", f"image-folder:{photos}", image_size=32))
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config | {"input_size": (3, 32, 32)})
    assert recipe.data.fit == "squash" and agree(inputs(recipe), expected(photos, transform))


def test_the_weights_file_tells_which_of_several_it_is(photos: Path):
    found = [
        with_known_input(recipe_of("torchvision:resnet50", f"image-folder:{photos}", weights))[0].data.resize
        for weights in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth", "mine.pth")
    ]
    assert found == [256, 232, 232]


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers without a word on pictures."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=24, patch_size=8, num_labels=2)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos whose crops have equal margins on both sides, once the shorter side is 24 or 30."""
    root, drawn = tmp_path_factory.mktemp("even"), np.random.default_rng(0)
    for number, (height, width) in enumerate([(48, 64), (64, 48), (60, 60), (36, 72), (96, 48), (48, 48)]):
        file = root / f"{'ab'[number % 2]}/{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (height, width, 3), np.uint8)).save(file)
    return root


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("ViT", {"size": {"height": 24, "width": 24}}),
        ("ViT", {"size": {"height": 24, "width": 24}, "do_normalize": False}),
        ("DeiT", {"size": {"height": 30, "width": 30}, "crop_size": {"height": 24, "width": 24}}),
        ("CLIP", {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}}),
        ("ConvNext", {"size": {"shortest_edge": 24}, "crop_pct": 0.8}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
    ],
    ids=["ViT", "not normalised", "DeiT", "CLIP", "ConvNext", "ConvNext, large"],
)
def test_a_folder_of_photos_is_fed_as_transformers_would(even: Path, vit: Path, kind: str, asked: dict[str, Any]):
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**asked)
    processor.save_pretrained(vit)
    recipe, told = with_known_input(recipe_of(f"transformers:{vit}", f"image-folder:{even}"))

    def transform(picture: Image.Image) -> torch.Tensor:
        return processor(picture, return_tensors="pt")["pixel_values"][0]

    assert agree(inputs(recipe), expected(even, transform))
    assert told.startswith("data: pictures as preprocessor_config.json has them (image_size, resize, fit")


def test_the_logits_are_those_of_transformers_own_pipeline(photos: Path, vit: Path):
    """The default processor resizes by torchvision's kernels, which round otherwise than Pillow's: a level of 255."""
    processor = transformers.ViTImageProcessor(size={"height": 24, "width": 24})
    processor.save_pretrained(vit)
    recipe, _ = with_known_input(recipe_of(f"transformers:{vit}", f"image-folder:{photos}", weights=None))
    module, _ = open_source(f"transformers:{vit}")
    reference = transformers.ViTForImageClassification.from_pretrained(vit).eval()
    data = load(recipe.data, trained=True)
    ours = torch.cat([part.inputs(slice(None)) for part in (data.train, data.validation, data.test)])
    pictures = [Image.open(file).convert("RGB") for file in sorted(photos.glob("*/*.png"))]
    theirs = processor(pictures, return_tensors="pt")["pixel_values"]
    gaps = (ours[:, None] - theirs[None]).abs().amax(dim=(2, 3, 4))
    order = gaps.argmin(dim=1)
    assert sorted(order.tolist()) == list(range(len(pictures)))
    assert float(gaps.min(dim=1).values.max()) <= 2 / 255 * 1.01  # of pixels from -1 to 1
    with torch.no_grad():
        torch.testing.assert_close(module(ours), reference(theirs[order]).logits, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ({"size": 24}, None, ""),
        ({"size": 24, "image_processor_type": "LevitImageProcessor"}, UsageError, "got LevitImageProcessor, do_resize"),
        ({"size": {"shortest_edge": 24}}, UsageError, "got size {'shortest_edge': 24}, do_center_crop None to 24"),
        (
            {"size": {"height": 24, "width": 32}},
            UsageError,
            "got size {'height': 24, 'width': 32}; say",
        ),
        ({"size": 24, "resample": 1}, UsageError, "got resample 1"),
        ({"size": 24, "rescale_factor": 1 / 127.5}, UsageError, "got do_rescale None, rescale_factor 0.0078"),
        ({"image_mean": [0.5]}, UsageError, "got no 'size'"),
        ({"size": 24, "image_mean": "none"}, CorruptError, "expected how pictures are prepared, got damage"),
    ],
    ids=str,
)
def test_what_a_folder_says_of_pictures_is_taken_or_refused(
    photos: Path, vit: Path, told: dict[str, Any], error: Any, message: str
):
    known = {"feature_extractor_type": "ViTFeatureExtractor", "resample": 2, "image_mean": [0.5] * 3}  # of 2021
    (vit / "preprocessor_config.json").write_text(json.dumps({**known, "image_std": [0.5] * 3, **told}))
    recipe = recipe_of(f"transformers:{vit}", f"image-folder:{photos}", weights=None)
    if error is None:
        data = with_known_input(recipe)[0].data
        assert (data.image_size, data.resize, data.fit, data.interpolation) == (24, 24, "squash", "bilinear")
        return
    with pytest.raises(error, match=re.escape(message)):
        with_known_input(recipe)
    (vit / "preprocessor_config.json").unlink()
    assert with_known_input(recipe) == (recipe, "")


def test_what_is_spelled_out_stays_and_a_size_keeps_the_share_that_is_cropped(photos: Path):
    source = f"image-folder:{photos}"
    asked = {"image_size": 56, "normalize": "standard"}
    recipe, told = with_known_input(recipe_of("torchvision:resnet18", source, **asked))
    data = recipe.data
    assert (data.image_size, data.resize, data.normalize, data.colour) == (56, 64, "standard", "rgb")
    assert "(resize, fit, interpolation, colour): shorter side to 64 (bilinear)" in told
    whole = asked | {"resize": 60, "fit": "squash", "interpolation": "bicubic", "colour": "grey"}
    asked_all = recipe_of("torchvision:resnet18", source, **whole)
    assert with_known_input(asked_all) == (asked_all, "")


def test_the_resolved_recipe_asks_for_nothing_more(photos: Path):
    recipe, _ = with_known_input(recipe_of("torchvision:resnet18", f"image-folder:{photos}"))
    assert with_known_input(PruneRecipe.model_validate(recipe.model_dump(mode="json")))[1] == ""


def test_other_data_and_other_sources_keep_the_recipe_s_own_defaults(photos: Path):
    for recipe in (
        recipe_of("torchvision:resnet18", "fashion-mnist"),
        recipe_of("resnet-20", f"image-folder:{photos}"),
        recipe_of("torchvision:r3d_18", f"image-folder:{photos}"),
    ):
        assert with_known_input(recipe) == (recipe, "")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("torchvision:resnet1", "expected a classifier of torchvision, got 'resnet1'; did you mean"),
        ("timm:vit_large_patch16_sapiens2", "expected pictures that are cropped or squashed to a square, .* 1024x768"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(photos: Path, model: str, says: str):
    with pytest.raises(UsageError, match=says):
        with_known_input(recipe_of(model, f"image-folder:{photos}"))
