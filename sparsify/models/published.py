"""`PublishedInput`: the pictures that a library's published weights were trained for, as the library itself says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAY_YOURSELF = (
    "say data.image_size, resize, fit, interpolation, colour and normalize yourself, by --set where there is no option"
)
"""The mend where a library prepares pictures in a way that is not known here."""


@dataclass(frozen=True)
class PublishedInput:
    """How a picture becomes the input of a published network.

    Attributes:
        origin: Who says so: `torchvision's IMAGENET1K_V2`.
        colour: What pictures are turned into.
        image_size: Side of the square that is cropped from the centre, in pixels.
        resize: Side that the shorter side is resized to before, in pixels.
        fit: `squash` where both sides are resized to it.
        interpolation: How.
        mean: What is subtracted per channel, of pixels in [0, 1].
        std: What is divided by then.
    """

    origin: str
    colour: Literal["grey", "rgb"]
    image_size: int
    resize: int
    fit: Literal["crop", "squash"]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
