"""What models there are, in plain data: no torch here, so that `validate` and `ls` stay quick."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

MLP_PATTERN = r"mlp:[1-9][0-9]{0,6}(-[1-9][0-9]{0,6})+"
MLP_EXAMPLE = "mlp:784-512-10"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One family or network of the zoo.

    Attributes:
        name: What a recipe writes.
        summary: One line for `sparsify ls models`.
        source: The paper, and its section where it matters.
        min_side: Smallest height and width in pixels that the network can take.
        channels: Numbers of input channels it can take; empty for any.
        input_note: What a person should know of the input, in words.
    """

    name: str
    summary: str
    source: str
    min_side: int = 1
    channels: tuple[int, ...] = ()
    input_note: str = "any size"


_FRANKLE_CARBIN = "Frankle & Carbin 2019, The Lottery Ticket Hypothesis, arXiv 1803.03635, figure 2"

_ENTRIES = (
    ModelEntry(
        "lenet-300-100",
        "Two hidden layers of 300 and 100; 266,610 parameters at 28x28",
        _FRANKLE_CARBIN,
    ),
    ModelEntry(
        "lenet-5",
        "Two 5x5 convolutions (20, 50), one hidden layer of 500; 431,080 parameters at 28x28",
        "LeCun et al. 1998, in the form pruning papers count (Han et al. 2015, arXiv 1506.02626, table 1)",
        min_side=16,
        input_note="at least 16x16; made for 28x28",
    ),
    ModelEntry(
        "conv-2",
        "VGG-like: two 3x3 convolutions, two hidden layers of 256; 4.3M parameters at 3x32x32",
        _FRANKLE_CARBIN,
        min_side=2,
        input_note="at least 2x2; made for 3x32x32",
    ),
    ModelEntry(
        "conv-4",
        "VGG-like: four 3x3 convolutions, two hidden layers of 256; 2.4M parameters at 3x32x32",
        _FRANKLE_CARBIN,
        min_side=4,
        input_note="at least 4x4; made for 3x32x32",
    ),
    ModelEntry(
        "conv-6",
        "VGG-like: six 3x3 convolutions, two hidden layers of 256; 2.26M parameters at 3x32x32",
        _FRANKLE_CARBIN,
        min_side=8,
        input_note="at least 8x8; made for 3x32x32",
    ),
    ModelEntry(
        "resnet-20",
        "CIFAR ResNet of depth 20 with projection shortcuts; 272,474 parameters at 3x32x32",
        "He et al. 2016, Deep Residual Learning, arXiv 1512.03385, section 4.2",
        min_side=4,
        input_note="at least 4x4; made for 3x32x32",
    ),
    ModelEntry(
        "mobilenet-v2",
        "MobileNetV2 with torchvision's parameter names; 3,504,872 parameters at 1000 classes",
        "Sandler et al. 2018, MobileNetV2, arXiv 1801.04381, table 2",
        min_side=8,
        channels=(1, 3),
        input_note="1 or 3 channels, at least 8x8; made for 3x224x224",
    ),
    ModelEntry(
        "mlp",
        f"Fully connected, widths as you write them: {MLP_EXAMPLE} is input, hidden layers, classes",
        "Glorot & Bengio 2010, AISTATS 9, for the initial weights",
        input_note="the first width is channels x height x width, the last is the number of classes",
    ),
)

MODELS = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def check_model(name: str) -> None:
    """Refuse a name that no model answers to; ValueError says which names come near."""
    if re.fullmatch(MLP_PATTERN, name):
        return
    if name == "mlp" or name.startswith("mlp:"):
        raise ValueError(f"expected widths from input to classes, such as {MLP_EXAMPLE}, got {name!r}")
    if name not in MODELS:
        near = difflib.get_close_matches(name.lower(), MODELS, n=2, cutoff=0.5)
        mend = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(MODELS)}"
        raise ValueError(f"expected a model's name (`sparsify ls models`) or {MLP_EXAMPLE}, got {name!r}; {mend}")


def mlp_widths(name: str) -> tuple[int, ...]:
    """Layer widths of `mlp:784-512-10`, input first and classes last."""
    check_model(name)
    return tuple(int(width) for width in name.removeprefix("mlp:").split("-"))


def check_fit(name: str, input_shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a model that cannot take these images or tell these classes apart.

    Args:
        name: The model's name.
        input_shape: Channels, height and width of one image.
        classes: Number of classes.

    Raises:
        ValueError: The name is unknown, or the network does not fit; the message says what would.
    """
    check_model(name)
    if min(input_shape) < 1 or classes < 2:
        raise ValueError(f"expected images of at least 1x1x1 and 2 classes, got {_times(input_shape)} and {classes}")
    if name.startswith("mlp:"):
        _check_mlp(name, input_shape, classes)
        return
    entry = MODELS[name]
    if min(input_shape[1:]) < entry.min_side or (entry.channels and input_shape[0] not in entry.channels):
        raise ValueError(
            f"{name} takes {entry.input_note}, got images of {_times(input_shape)}; "
            "choose another model (`sparsify ls models`) or other images"
        )


def _check_mlp(name: str, input_shape: tuple[int, int, int], classes: int) -> None:
    widths = mlp_widths(name)
    size = prod(input_shape)
    if (widths[0], widths[-1]) != (size, classes):
        hidden = widths[1:-1]
        mend = "mlp:" + "-".join(str(width) for width in (size, *hidden, classes))
        raise ValueError(
            f"{name} takes {widths[0]} inputs and gives {widths[-1]} classes, but the data has {_times(input_shape)} = "
            f"{size} inputs and {classes} classes; write {mend}"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
