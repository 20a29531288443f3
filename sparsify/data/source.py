"""What a source gives before it is split and scaled: inputs and labels as they lie on disk, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.labels import UNLABELLED, LabelKind, Labels, kind_of
from sparsify.errors import UsageError

Inputs = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of a source's examples.

    Attributes:
        inputs: Images (N, C, H, W), uint8 or float32; rows of numbers (N, D), float32; or texts (N, 2, T), int64: the
            tokens' ids and the attention mask.
        labels: Classes (N,) or a position's classes (N, ...), int64; values (N,) or (N, K), float32; (N, 0) for none.
    """

    inputs: Inputs
    labels: Labels

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A source's examples, in the parts it comes in.

    Attributes:
        name: What errors call it: a data set's name or a path.
        white: Pixel value that stands for 1.0.
        train: All examples that have no other part.
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
    def kind(self) -> LabelKind:
        """What kind of labels there are."""
        return kind_of(self.train.labels)

    @property
    def classes(self) -> int:
        """Number of classes; of values an example where those are regressed on; 0 without labels."""
        labels = self.train.labels
        if self.kind == "none":
            return 0
        if self.kind == "values":
            return labels.shape[1] if labels.ndim == 2 else 1
        parts = [part.labels for part in (self.train, self.validation, self.test) if part is not None and len(part)]
        return len(self.class_names) or max(int(labels.max()) for labels in parts) + 1


def check_source_parts(source: Source, *, trained: bool = False) -> Source:
    """The source itself, once its labels and shapes are known to agree.

    Args:
        source: What was read.
        trained: Whether a network that is trained already is to be held against it. Then labels may be of any kind or
            absent, and classes may lack examples; else they are classes, each of which training has to see.

    Raises:
        UsageError: No examples, parts that differ in shape or in their kind of labels, or labels that are not 0 to
            classes - 1.
    """
    name, train = source.name, source.train
    if not len(train):
        raise UsageError(f"{name}: expected training images, got none")
    for role, part in (("validation", source.validation), ("test", source.test)):
        if part is not None:
            _check_belongs(name, role, part, train)
    if not trained:
        _check_learnable(source)
    elif source.kind in ("classes", "positions"):
        _check_numbers(source)
    return source


def _check_belongs(name: str, role: str, part: Part, train: Part) -> None:
    if not len(part):
        raise UsageError(f"{name}: expected {role} images, got none; leave them out to carve some from train")
    if part.inputs.shape[1:] != train.inputs.shape[1:]:
        raise UsageError(
            f"{name}: expected {role} images of the training images' shape {train.inputs.shape[1:]}, "
            f"got {part.inputs.shape[1:]}"
        )
    if kind_of(part.labels) != kind_of(train.labels) or part.labels.shape[1:] != train.labels.shape[1:]:
        raise UsageError(
            f"{name}: expected {role} labels like the training labels ({_described(train.labels)}), "
            f"got {_described(part.labels)}"
        )


def _check_learnable(source: Source) -> None:
    """Labels from which a classifier can be trained and judged."""
    name, train = source.name, source.train
    if source.kind != "classes" or train.inputs.dtype == np.int64:
        what = "texts" if train.inputs.dtype == np.int64 else _described(train.labels)
        raise UsageError(f"{name}: expected images with one class each to train a classifier on, got {what}")
    present = np.unique(train.labels)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise UsageError(
            f"{name}: expected training labels 0 to classes - 1, each at least once and two at least, "
            f"got {_some(present)}; renumber them"
        )
    for role, part in (("validation", source.validation), ("test", source.test)):
        unknown = set() if part is None else set(np.unique(part.labels).tolist()) - set(present.tolist())
        if unknown:
            raise UsageError(
                f"{name}: {role} holds label {min(unknown)}, which no training image has; add some to train"
            )


def _check_numbers(source: Source) -> None:
    """Labels that can be positions among a trained network's outputs."""
    for part in (source.train, source.validation, source.test):
        if part is None:
            continue
        labels = part.labels if source.kind == "classes" else part.labels[part.labels != UNLABELLED]
        if not labels.size or labels.min() < 0 or (source.class_names and labels.max() >= len(source.class_names)):
            most = f" to {len(source.class_names) - 1}" if source.class_names else ""
            got = f"{labels.min()} to {labels.max()}" if labels.size else f"nothing but {UNLABELLED}"
            raise UsageError(f"{source.name}: expected labels from 0{most}, got {got}; renumber them")


def _described(labels: Labels) -> str:
    kind = kind_of(labels)
    words = {
        "classes": "one class each",
        "positions": "classes for each position",
        "values": "values",
        "none": "no labels",
    }
    return words[kind] if kind in ("classes", "none") else f"{words[kind]} of shape {labels.shape[1:]}"


def _some(labels: NDArray[Any]) -> str:
    shown = ", ".join(str(label) for label in labels[:8])
    return f"{shown}, ... {labels[-1]}" if len(labels) > 8 else shown
