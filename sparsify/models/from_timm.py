"""`timm:NAME`: its classifiers, built by name with `pretrained=False`, for any number of channels and classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from sparsify.errors import UsageError
from sparsify.models.head import outputs_for
from sparsify.models.library import library
from sparsify.models.published import SAY_YOURSELF, PublishedInput
from sparsify.models.source import Description, Request, Source, State
from sparsify.models.source_name import SourceName


def describe(request: Request, state: State | None) -> Description:
    """Shape as given, else timm's; classes as given or the checkpoint's, else timm's."""
    name, text = request.name.name, request.name.text
    known = _configuration(request.name)
    own = tuple(int(side) for side in known.input_size)
    shape = request.input_shape or own
    if len(shape) != 3:
        raise UsageError(f"model {text}: expected inputs of shape (channels, height, width), got {shape}")
    options: dict[str, Any] = {}
    if known.fixed_input_size and shape[1:] != own[1:]:
        options["img_size"] = list(shape[1:])
    classes = outputs_for(request.classes, state, lambda count: _build(text, name, shape[0], count, options))
    return Description(request.name, shape, classes or int(known.num_classes) or 1000, options)


def construct(description: Description, seed: int) -> nn.Module:
    """The network with fresh weights."""
    source = description.name
    return _build(source.text, source.name, description.input_shape[0], description.classes, dict(description.options))


def published(name: SourceName, weights: Path | None, image_size: int | None) -> PublishedInput | None:
    """What timm's own data configuration says; another size keeps the share of the picture that is cropped.

    Raises:
        UsageError: It pads pictures, or they are no squares, which is not done here.
    """
    told = library("timm.data", name.text).resolve_data_config(pretrained_cfg=_configuration(name).to_dict())
    channels, height, width = told["input_size"]
    if told["crop_mode"] not in ("center", "squash") or height != width or told["crop_pct"] > 1:
        raise UsageError(
            f"model {name.text}: expected pictures that are cropped or squashed to a square, got crop_mode "
            f"{told['crop_mode']}, crop_pct {told['crop_pct']} and {height}x{width} as timm has it; {SAY_YOURSELF}"
        )
    wanted = image_size or height
    return PublishedInput(
        "timm's data configuration",
        "grey" if channels == 1 else "rgb",
        wanted,
        math.floor(wanted / told["crop_pct"]),
        "squash" if told["crop_mode"] == "squash" else "crop",
        told["interpolation"],
        tuple(told["mean"]),
        tuple(told["std"]),
    )


def _configuration(source: SourceName) -> Any:
    """What timm says of a name's published weights, read from the package."""
    name = source.name
    timm = library("timm", source.text)
    # Names with a colon are places (`hf-hub:`), which timm would fetch from.
    if ":" in name or "/" in name or not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3] if name.replace("_", "").isalnum() else []
        mend = f"did you mean {', '.join(near)}?" if near else "`timm.list_models()` names them"
        raise UsageError(f"model {source.text}: expected a model of timm, got {name!r}; {mend}")
    return timm.get_pretrained_cfg(name)


def _build(text: str, name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    timm = library("timm", text)
    sized = {key: tuple(value) for key, value in options.items()}
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes, **sized)


SOURCE = Source(describe, construct, published=published)
