"""`torchvision:NAME`: its classifiers of images and videos, built by name with `weights=None`."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from torch import nn

from sparsify.errors import UsageError
from sparsify.models.head import outputs_for
from sparsify.models.library import library
from sparsify.models.published import PublishedInput
from sparsify.models.source import Description, Request, Source, State
from sparsify.models.source_name import SourceName

CHANNELS = 3
# The argument that says the images' side, for the networks that are built for one size.
_SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
# Networks with auxiliary classifiers return several outputs while training; they are built without.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def describe(request: Request, state: State | None) -> Description:
    """Shape as given, else that of its published weights; classes as given or the checkpoint's, else 1000 or 400."""
    name, text = request.name.name, request.name.text
    videos = _videos(request.name)
    shape = request.input_shape or _published_shape(text, name, is_video=name in videos)
    if shape[0] != CHANNELS or len(shape) != (4 if name in videos else 3):
        takes = "(3, frames, height, width)" if name in videos else "(3, height, width)"
        raise UsageError(
            f"model {text}: expected inputs of shape {takes}, got {shape}; repeat a grey channel three times, or "
            "choose a timm model, which can be built for any number of channels"
        )
    options = _options(name, shape)
    classes = outputs_for(request.classes, state, lambda count: _build(text, name, count, options))
    return Description(request.name, shape, classes or (400 if name in videos else 1000), options)


def construct(description: Description, seed: int) -> nn.Module:
    """The network with fresh weights."""
    source = description.name
    return _build(source.text, source.name, description.classes, dict(description.options))


def rename(description: Description, module: nn.Module, state: State) -> State:
    """Published files as the module has them: without auxiliary classifiers, DenseNet's layers in their new names."""
    auxiliary = _AUXILIARY.get(description.name.name, ())
    return {_OLD_DENSE_LAYER.sub(r"\1\2", key): state[key] for key in state if not key.startswith(auxiliary or "\0")}


def published(name: SourceName, weights: Path | None, image_size: int | None) -> PublishedInput | None:
    """What the transforms of its weights say: of those that the file is named for, else of torchvision's default.

    Another size keeps the share of the picture that is cropped.
    """
    if name.name in _videos(name):
        return None
    known = library("torchvision.models", name.text).get_model_weights(name.name)
    file = "" if weights is None else weights.name
    chosen = next((one for one in known if one.url.rpartition("/")[2] == file), known.DEFAULT)
    told = chosen.transforms()
    (size,), (resize,) = told.crop_size, told.resize_size
    wanted = image_size or size
    return PublishedInput(
        f"torchvision's {chosen.name}",
        "rgb",
        wanted,
        round(wanted * resize / size),
        "crop",
        told.interpolation.value,
        tuple(told.mean),
        tuple(told.std),
    )


def _build(text: str, name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    models = library("torchvision.models", text)
    sized = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return models.get_model(name, weights=None, num_classes=classes, **sized)


def _videos(source: SourceName) -> list[str]:
    """The names of networks of videos, once the source is known to be one of them or of images."""
    models = library("torchvision.models", source.text)
    images, videos = models.list_models(module=models), models.list_models(module=models.video)
    if source.name not in images and source.name not in videos:
        near = difflib.get_close_matches(source.name, (*images, *videos), n=2)
        mend = f"did you mean {' or '.join(near)}?" if near else "detectors and segmenters are none of them"
        raise UsageError(f"model {source.text}: expected a classifier of torchvision, got {source.name!r}; {mend}")
    return videos


def _published_shape(text: str, name: str, *, is_video: bool) -> tuple[int, ...]:
    if is_video:
        raise UsageError(f"model {text}: expected the shape of one video, got none; give (3, frames, height, width)")
    if name.startswith(tuple(_SIZED)):
        return (CHANNELS, 224, 224)
    published = library("torchvision.models", text).get_model_weights(name).DEFAULT
    side = int(published.transforms.keywords["crop_size"])
    return (CHANNELS, side, side)


def _options(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    if name in _AUXILIARY:
        return {"aux_logits": False, "init_weights": True}
    for prefix, argument in _SIZED.items():
        if name.startswith(prefix):
            return {argument: shape[1] if argument == "image_size" else list(shape[1:])}
    return {}


SOURCE = Source(describe, construct, rename, published=published)
