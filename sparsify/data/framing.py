"""How pictures of any size are brought to the one a network takes, as torchvision and timm do it: resize, then crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec

Interpolation = Literal["bilinear", "bicubic"]
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Framing:
    """A resize and the crop of the centre.

    Attributes:
        size: Side of the square that is cropped, in pixels.
        resize: Side that the picture's shorter side is resized to before, in pixels; at least `size`.
        squash: Whether both sides are resized to it, whatever the picture's proportions.
        interpolation: How.
    """

    size: int
    resize: int
    squash: bool = False
    interpolation: Interpolation = "bilinear"

    def apply(self, picture: Image.Image) -> Image.Image:
        """The picture as (`size`, `size`) pixels, as torchvision's `Resize` and `CenterCrop` have them on pictures."""
        side = self.resize
        width, height = picture.size
        if self.squash:
            wanted = (side, side)
        else:  # cut to whole pixels, as torchvision does
            wanted = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        resized = picture.resize(wanted, _RESAMPLING[self.interpolation])
        left, top = (round((length - self.size) / 2) for length in resized.size)
        return resized.crop((left, top, left + self.size, top + self.size))


def framing_of(spec: DataSpec) -> Framing | None:
    """How the recipe wants pictures framed; None where they are to keep their size.

    Raises:
        UsageError: Fields that say how are there without the size, or pictures would be smaller than what is cropped.
    """
    if spec.image_size is None:
        said = [name for name in ("resize", "fit", "interpolation") if getattr(spec, name) is not None]
        if said:
            raise UsageError(
                f"data.{said[0]}: expected data.image_size beside it, got none; say the size that the network takes, "
                "as by --image-size 224"
            )
        return None
    resize = spec.resize or spec.image_size
    if resize < spec.image_size:
        raise UsageError(
            f"data.resize: expected at least data.image_size, {spec.image_size}, which is cropped from it, got {resize}"
        )
    return Framing(spec.image_size, resize, spec.fit == "squash", spec.interpolation or "bilinear")
