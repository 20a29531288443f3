"""What a source gives before it is split and scaled: pixels and labels as they lie on disk, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of a source's images.

    Attributes:
        pixels: (N, C, H, W), uint8 or float32.
        labels: (N,), int64, from 0 to classes - 1.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A source's images, in the parts it comes in.

    Attributes:
        name: What errors call it: a data set's name or a path.
        white: Pixel value that stands for 1.0.
        train: All images that have no other part.
        validation: The source's own validation set, if it has one.
        test: The source's own test set, if it has one.
        class_names: A name for each label; empty where the source has none.
    """

    name: str
    white: float
    train: Part
    validation: Part | None = None
    test: Part | None = None
    class_names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names) or int(self.train.labels.max()) + 1


def check_source_parts(source: Source) -> Source:
    """The source itself, once its labels and shapes are known to agree.

    Raises:
        UsageError: No images, labels that are not 0 to classes - 1, parts that differ in shape or that hold a class
            which training never sees.
    """
    name, train = source.name, source.train
    if not len(train):
        raise UsageError(f"{name}: expected training images, got none")
    present = np.unique(train.labels)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise UsageError(
            f"{name}: expected training labels 0 to classes - 1, each at least once and two at least, "
            f"got {_some(present)}; renumber them"
        )
    for role, part in (("validation", source.validation), ("test", source.test)):
        if part is None:
            continue
        if not len(part):
            raise UsageError(f"{name}: expected {role} images, got none; leave them out to carve some from train")
        if part.pixels.shape[1:] != train.pixels.shape[1:]:
            raise UsageError(
                f"{name}: expected {role} images of the training images' shape {train.pixels.shape[1:]}, "
                f"got {part.pixels.shape[1:]}"
            )
        if unknown := sorted(set(np.unique(part.labels).tolist()) - set(present.tolist())):
            raise UsageError(f"{name}: {role} holds label {unknown[0]}, which no training image has; add some to train")
    return source


def _some(labels: NDArray[np.int64]) -> str:
    shown = ", ".join(str(label) for label in labels[:8])
    return f"{shown}, ... {labels[-1]}" if len(labels) > 8 else shown
