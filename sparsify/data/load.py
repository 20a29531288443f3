"""Bring a recipe's data into memory, apart in train, validation and test, as tensors a network can take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.data.catalogue import IMAGE_FOLDER, NPZ, parse_source
from sparsify.data.scaling import Scaling, fit_scaling
from sparsify.data.source import Part, Source, check_source_parts
from sparsify.data.split import draw_split
from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One part of the data.

    Attributes:
        images: (N, C, H, W), float32, contiguous, on the CPU.
        labels: (N,), int64, from 0 to classes - 1.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Everything a recipe's data is: choices are made on `validation`, `test` is read once.

    Attributes:
        train: What networks learn from, and the only part that scaling is fitted to.
        validation: What choices are made on.
        test: What is reported, once.
        input_shape: Channels, height and width of one image.
        classes: Number of classes.
        class_names: A name for each class; empty where the source has none.
    """

    train: Split
    validation: Split
    test: Split
    input_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...] = ()


def load(spec: DataSpec) -> Data:
    """Read, split and scale the data. Equal specs of equal content give equal tensors; no random state is touched.

    Raises:
        UsageError: The source is not one, or its images cannot be split or scaled as asked.
        InputOutputError: The data is not here and cannot be had; the message says how to get it.
        CorruptError: A file is damaged or not what its digest says.
    """
    source = check_source_parts(_read(spec))
    train, validation, test = _parts(source, spec)
    scaling = fit_scaling(source.name, train.pixels, white=source.white, how=spec.normalize)
    channels, height, width = train.pixels.shape[1:]
    return Data(
        train=_split(train, scaling),
        validation=_split(validation, scaling),
        test=_split(test, scaling),
        input_shape=(channels, height, width),
        classes=source.classes,
        class_names=source.class_names,
    )


def _read(spec: DataSpec) -> Source:
    """The source as it lies on disk. Each reader is imported when it is needed, with what it needs."""
    try:
        name, path = parse_source(spec.source)
    except ValueError as error:
        raise UsageError(f"data.source: {error}") from None
    if spec.image_size is not None and name != IMAGE_FOLDER:
        raise UsageError(f"data.image_size is for image-folder, and {name} keeps its size; remove data.image_size")
    if path is None:
        if name == "digits":
            from sparsify.data.digits import read_digits

            return read_digits()
        from sparsify.data.fashion_mnist import read_fashion_mnist

        return read_fashion_mnist()
    if name == NPZ:
        from sparsify.data.npz import read_npz

        return read_npz(path)
    from sparsify.data.image_folder import read_image_folder

    return read_image_folder(path, image_size=spec.image_size)


def _parts(source: Source, spec: DataSpec) -> tuple[Part, Part, Part]:
    """Train, validation and test: the source's own where it has them, carved out of its training images otherwise."""
    indices = draw_split(
        source.name,
        len(source.train),
        validation=spec.validation if source.validation is None else 0,
        test=spec.test if source.test is None else 0,
        seed=spec.split_seed,
    )
    return (
        _take(source.train, indices.train),
        _take(source.train, indices.validation) if source.validation is None else source.validation,
        _take(source.train, indices.test) if source.test is None else source.test,
    )


def _take(part: Part, indices: NDArray[np.int64]) -> Part:
    return Part(part.pixels[indices], part.labels[indices])


def _split(part: Part, scaling: Scaling) -> Split:
    return Split(torch.from_numpy(scaling.apply(part.pixels)), torch.from_numpy(part.labels.copy()))
