"""Our own zoo as a source: the names of `catalogue.MODELS`, and `mlp:784-512-10`."""

from __future__ import annotations

from torch import nn

from sparsify.errors import UsageError
from sparsify.models.build import build
from sparsify.models.source import Description, Request, Source, State


def describe(request: Request, state: State | None) -> Description:
    """The zoo has no shape of its own: the shape is the data's, and the classes are, or else the checkpoint's."""
    name, shape = request.name.text, request.input_shape
    classes = request.classes or _classes_in(state)
    if shape is None or classes is None:
        raise UsageError(
            f"model {name}: expected an input shape and a number of classes, got {shape} and {classes}; "
            "name the data, or pass input_shape=(channels, height, width) and classes"
        )
    return Description(request.name, _image_shape(name, shape), classes)


def _classes_in(state: State | None) -> int | None:
    """Rows of the last layer, which every zoo network calls `output` but MobileNetV2, whose names are torchvision's."""
    heads = [name for name in state or {} if name.endswith(("output.weight", "classifier.1.weight"))]
    return len(state[heads[0]]) if state and heads else None


def construct(description: Description, seed: int) -> nn.Module:
    """As `build`."""
    shape = _image_shape(description.name.text, description.input_shape)
    return build(description.name.text, input_shape=shape, classes=description.classes, seed=seed)


def _image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(f"model {name}: expected input_shape (channels, height, width), got {shape}")
    return (shape[0], shape[1], shape[2])


SOURCE = Source(describe, construct)
