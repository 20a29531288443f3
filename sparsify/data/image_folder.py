"""The user's own pictures in a folder a class, or in one folder without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparsify.data.folder import list_folder
from sparsify.data.framing import Framing
from sparsify.data.labels import Labels, no_labels
from sparsify.data.pictures import WHITE, Picture, read_pictures
from sparsify.data.source import Part, Source


def read_image_folder(path: Path, *, framing: Framing | None, channels: int | None = None) -> Source:
    """The pictures under `path`, brought to one size, labelled by the order of their classes' names, if they have any.

    Args:
        path: The folder; see `folder.list_folder` for its layout.
        framing: How pictures are brought to one size; see `pictures.read_pictures`.
        channels: 1 for grey, 3 for colour; None for what the pictures are.

    Raises:
        InputOutputError: The folder is absent or cannot be read.
        CorruptError: A picture cannot be decoded; the message names it.
        UsageError: The layout is not one of classes, sizes differ without `framing`, a picture has more than 8 bits
            a channel, or all of them do not fit in memory.
    """
    listing = list_folder(path)
    parts = [_labelled(classes, listing.class_names) for classes in (listing.train, listing.validation, listing.test)]
    pictures = [[Picture(str(file), file) for file, _ in part] for part in parts]
    decoded = read_pictures(str(path), pictures, framing, channels)
    train, validation, test = (
        Part(pixels, _labels(part)) if part else None for pixels, part in zip(decoded, parts, strict=True)
    )
    assert train is not None, "list_folder refuses a folder without pictures"
    return Source(str(path), WHITE, train, validation, test, class_names=listing.class_names)


def _labelled(classes: Mapping[str, tuple[Path, ...]], class_names: tuple[str, ...]) -> list[tuple[Path, int | None]]:
    label = {name: position for position, name in enumerate(class_names)}
    return [(file, label.get(name)) for name, files in classes.items() for file in files]


def _labels(part: list[tuple[Path, int | None]]) -> Labels:
    labels = [label for _, label in part if label is not None]
    return np.array(labels, np.int64) if labels else no_labels(len(part))
