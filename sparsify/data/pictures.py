"""The user's own pictures, decoded by Pillow, turned upright, resized and cropped to one size."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sparsify.data.memory import check_memory
from sparsify.errors import CorruptError, InputOutputError, UsageError

WHITE = 255.0
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
FLOAT_BYTES = 4

# What Pillow's decoders raise on files that are not what they claim to be.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError)


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded picture.

    Attributes:
        name: What errors call it.
        content: The file it lies in, or its bytes.
    """

    name: str
    content: Path | bytes

    @contextmanager
    def opened(self) -> Generator[Image.Image]:
        """The picture, not decoded yet; whatever goes wrong with it in here is an error that names it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(self.content if isinstance(self.content, Path) else BytesIO(self.content)) as image:
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise CorruptError(
                f"{self.name}: expected a picture of ordinary size, got a decompression bomb: {error}"
            ) from None
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputOutputError(f"{self.name}: expected a readable picture, got: {error.strerror}") from error
            raise CorruptError(f"{self.name}: expected a picture, got damage: {error}; remove or replace it") from error


def read_pictures(name: str, parts: Sequence[Sequence[Picture]], image_size: int | None) -> list[NDArray[np.uint8]]:
    """The pictures of each part as (N, C, H, W), all of one shape.

    They are turned upright (EXIF); with `image_size` their shorter side is resized to it (bilinear) and their centre
    cropped to a square, without it they must all be of one size. One channel if every picture is grey, else three;
    transparency is dropped.

    Raises:
        InputOutputError: A file cannot be read.
        CorruptError: A picture cannot be decoded; the message names it.
        UsageError: There is none, sizes differ without `image_size`, a picture has more than 8 bits a channel, or all
            of them do not fit in memory.
    """
    everything = [picture for part in parts for picture in part]
    channels, (width, height) = _survey(everything, image_size)
    check_memory(name, len(everything) * channels * width * height * FLOAT_BYTES)
    decoded = [np.empty((len(part), channels, height, width), np.uint8) for part in parts]
    for pixels, part in zip(decoded, parts, strict=True):
        for slot, picture in zip(pixels, part, strict=True):
            slot[:] = _decode(picture, channels, image_size)
    return decoded


def _survey(pictures: Sequence[Picture], image_size: int | None) -> tuple[int, tuple[int, int]]:
    """Channels, and width and height, that all pictures will have; reads their headers alone."""
    channels = 1
    common: tuple[str, tuple[int, int]] | None = None
    for picture in pictures:
        with picture.opened() as image:
            if image.mode not in GREY_MODES | COLOUR_MODES:
                raise UsageError(
                    f"{picture.name}: expected 8 bits a channel, got mode {image.mode}; convert it to 8 bits"
                )
            channels = max(channels, 1 if image.mode in GREY_MODES else 3)
            size = _upright_size(image)
            common = common or (picture.name, size)
            if image_size is None and size != common[1]:
                raise UsageError(
                    f"{picture.name}: expected {_by(common[1])} pixels as in {common[0]}, got {_by(size)}; "
                    "set data.image_size to bring all to one size"
                )
    if common is None:
        raise UsageError("expected at least one picture, got none")
    return channels, common[1] if image_size is None else (image_size, image_size)


def _decode(picture: Picture, channels: int, image_size: int | None) -> NDArray[np.uint8]:
    """One picture as (channels, height, width)."""
    with picture.opened() as opened:
        upright = ImageOps.exif_transpose(opened)
        opaque = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
        image = opaque.convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(image if image_size is None else _centre(image, image_size), np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.moveaxis(pixels, 2, 0)


def _centre(picture: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to `side`, and crop the middle of the longer."""
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once turned as EXIF says."""
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else (width, height)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
