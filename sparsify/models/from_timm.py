"""`timm:NAME`: its classifiers, built by name with `pretrained=False`, for any number of channels and classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsify.errors import UsageError
from sparsify.models.head import classes_in
from sparsify.models.library import library
from sparsify.models.source import Description, Request, Source, State


def describe(request: Request, state: State | None) -> Description:
    """Shape as given, else timm's; classes as given, else the checkpoint's, else timm's."""
    name, text = request.name.name, request.name.text
    timm = library("timm", text)
    # Names with a colon are places (`hf-hub:`), which timm would fetch from.
    if ":" in name or "/" in name or not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3] if name.replace("_", "").isalnum() else []
        mend = f"did you mean {', '.join(near)}?" if near else "`timm.list_models()` names them"
        raise UsageError(f"model {text}: expected a model of timm, got {name!r}; {mend}")
    published = timm.get_pretrained_cfg(name)
    own = tuple(int(side) for side in published.input_size)
    shape = request.input_shape or own
    if len(shape) != 3:
        raise UsageError(f"model {text}: expected inputs of shape (channels, height, width), got {shape}")
    options: dict[str, Any] = {}
    if published.fixed_input_size and shape[1:] != own[1:]:
        options["img_size"] = list(shape[1:])
    classes = request.classes
    if classes is None and state is not None:
        classes = classes_in(state, lambda count: _build(text, name, shape[0], count, options))
    return Description(request.name, shape, classes or int(published.num_classes) or 1000, options)


def construct(description: Description, seed: int) -> nn.Module:
    """The network with fresh weights."""
    source = description.name
    return _build(source.text, source.name, description.input_shape[0], description.classes, dict(description.options))


def _build(text: str, name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    timm = library("timm", text)
    sized = {key: tuple(value) for key, value in options.items()}
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes, **sized)


SOURCE = Source(describe, construct)
