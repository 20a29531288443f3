"""The user's own pictures, decoded by Pillow, resized and cropped to one size."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sparsify.data.folder import list_folder
from sparsify.data.memory import check_memory
from sparsify.data.source import Part, Source
from sparsify.errors import CorruptError, InputOutputError, UsageError

WHITE = 255.0
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
FLOAT_BYTES = 4

# What Pillow's decoders raise on files that are not what they claim to be.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError)


def read_image_folder(path: Path, *, image_size: int | None) -> Source:
    """The pictures under `path`, labelled by the order of their classes' names.

    They are turned upright (EXIF); with `image_size` their shorter side is resized to it (bilinear) and their centre
    cropped to a square, without it they must all be of one size. One channel if every picture is grey, else three;
    transparency is dropped.

    Args:
        path: The folder; see `folder.list_folder` for its layout.
        image_size: Side in pixels.

    Raises:
        InputOutputError: The folder is absent or cannot be read.
        CorruptError: A picture cannot be decoded; the message names it.
        UsageError: The layout is not one of classes, sizes differ without `image_size`, a picture has more than 8 bits
            a channel, or all of them do not fit in memory.
    """
    listing = list_folder(path)
    files = listing.files()
    channels, (width, height) = _survey(files, image_size)
    check_memory(str(path), len(files) * channels * width * height * FLOAT_BYTES)
    label = {name: position for position, name in enumerate(listing.class_names)}

    def part(classes: Mapping[str, tuple[Path, ...]]) -> Part:
        labelled = [(file, label[name]) for name, class_files in classes.items() for file in class_files]
        pixels = np.empty((len(labelled), channels, height, width), np.uint8)
        for slot, (file, _) in zip(pixels, labelled, strict=True):
            slot[:] = _decode(file, channels, image_size)
        return Part(pixels, np.array([position for _, position in labelled], np.int64))

    return Source(
        str(path),
        WHITE,
        train=part(listing.train),
        validation=part(listing.validation) if listing.validation else None,
        test=part(listing.test) if listing.test else None,
        class_names=listing.class_names,
    )


def _survey(files: Sequence[Path], image_size: int | None) -> tuple[int, tuple[int, int]]:
    """Channels, and width and height, that all pictures will have; reads their headers alone."""
    channels = 1
    common: tuple[Path, tuple[int, int]] | None = None
    for file in files:
        with _opened(file) as image:
            if image.mode not in GREY_MODES | COLOUR_MODES:
                raise UsageError(f"{file}: expected 8 bits a channel, got mode {image.mode}; convert it to 8 bits")
            channels = max(channels, 1 if image.mode in GREY_MODES else 3)
            common = common or (file, _upright_size(image))
            if image_size is None and _upright_size(image) != common[1]:
                raise UsageError(
                    f"{file}: expected {_by(common[1])} pixels as in {common[0]}, got {_by(_upright_size(image))}; "
                    "set data.image_size to bring all to one size"
                )
    if common is None:
        raise UsageError("expected at least one picture, got none")
    return channels, common[1] if image_size is None else (image_size, image_size)


def _decode(file: Path, channels: int, image_size: int | None) -> NDArray[np.uint8]:
    """One picture as (channels, height, width)."""
    with _opened(file) as image:
        upright = ImageOps.exif_transpose(image)
        opaque = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
        picture = opaque.convert("L" if channels == 1 else "RGB")
        if image_size is not None:
            picture = _centre(picture, image_size)
        pixels = np.asarray(picture, np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.moveaxis(pixels, 2, 0)


def _centre(picture: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to `side`, and crop the middle of the longer."""
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))


@contextmanager
def _opened(file: Path) -> Generator[Image.Image]:
    """The picture, not decoded yet; whatever goes wrong with it in here is an error that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise CorruptError(f"{file}: expected a picture of ordinary size, got a decompression bomb: {error}") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputOutputError(f"{file}: expected a readable picture, got: {error.strerror}") from error
        raise CorruptError(f"{file}: expected a picture, got damage: {error}; remove or replace it") from error


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once turned as EXIF says."""
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else (width, height)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
