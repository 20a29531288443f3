"""The user's own pictures, decoded by Pillow, turned upright, and framed to one size."""

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

from sparsify.data.framing import Framing
from sparsify.data.memory import check_memory
from sparsify.errors import CorruptError, InputOutputError, UsageError

WHITE = 255.0
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
COPIES = 2  # as they are decoded, and once more where train, validation and test are carved out of one part

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


def read_pictures(
    name: str, parts: Sequence[Sequence[Picture]], framing: Framing | None, channels: int | None = None
) -> list[NDArray[np.uint8]]:
    """The pictures of each part as (N, C, H, W), all of one shape.

    They are turned upright (EXIF) and framed; without `framing` they must all be of one size. With `channels` left
    out, one channel if every picture is grey, else three; transparency is dropped.

    Raises:
        InputOutputError: A file cannot be read.
        CorruptError: A picture cannot be decoded; the message names it.
        UsageError: There is none, sizes differ without `framing`, a picture has more than 8 bits a channel, or all
            of them do not fit in memory.
    """
    everything = [picture for part in parts for picture in part]
    found, (width, height) = _survey(everything, framing)
    colours = channels or found
    check_memory(name, len(everything) * colours * width * height * COPIES)
    decoded = [np.empty((len(part), colours, height, width), np.uint8) for part in parts]
    for pixels, part in zip(decoded, parts, strict=True):
        for slot, picture in zip(pixels, part, strict=True):
            slot[:] = decode(picture, colours, framing)
    return decoded


def _survey(pictures: Sequence[Picture], framing: Framing | None) -> tuple[int, tuple[int, int]]:
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
            if framing is None and size != common[1]:
                raise UsageError(
                    f"{picture.name}: expected {_by(common[1])} pixels as in {common[0]}, got {_by(size)}; "
                    "set data.image_size to bring all to one size, as by --image-size 224"
                )
    if common is None:
        raise UsageError("expected at least one picture, got none")
    return channels, common[1] if framing is None else (framing.size, framing.size)


def decode(picture: Picture, channels: int, framing: Framing | None) -> NDArray[np.uint8]:
    """One picture, upright and framed, as (channels, height, width); raises as `read_pictures` does."""
    with picture.opened() as opened:
        return pixels_of(opened, channels, framing)


def pixels_of(picture: Image.Image, channels: int, framing: Framing | None) -> NDArray[np.uint8]:
    """An opened picture, upright and framed, as (channels, height, width)."""
    upright = ImageOps.exif_transpose(picture)
    opaque = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
    image = opaque.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image if framing is None else framing.apply(image), np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.moveaxis(pixels, 2, 0)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once turned as EXIF says."""
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else (width, height)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
