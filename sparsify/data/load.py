"""Bring a recipe's data into memory, apart in train, validation and test, as tensors a network can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.data.catalogue import HF_DATASET, IMAGE_FOLDER, NPZ, TOKENS, parse_source
from sparsify.data.preprocessing import Preprocessing
from sparsify.data.scaling import Scaling, fit_scaling
from sparsify.data.source import Part, Source, check_source_parts
from sparsify.data.split import draw_split
from sparsify.errors import UsageError
from sparsify.recipe.spec import DataSpec

MAX_TOKENS = 128
# What a recipe says of pictures alone.
PICTURE_FIELDS = ("image_size", "resize", "fit", "interpolation", "colour")
_CHANNELS = {"grey": 1, "rgb": 3}


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One part of the data.

    Attributes:
        images: As they are held, contiguous: images (N, C, H, W) or rows (N, D), float32; pictures (N, C, H, W), uint8,
            where there is a scaling; or texts (N, 2, T), int64: the tokens' ids and the attention mask.
        labels: Classes (N,), int64, from 0 to classes - 1; classes of each position (N, ...), int64, -100 where a
            position has none; values (N,) or (N, K), float32; (N, 0) where there are no labels.
        scaling: What makes of the images what a network takes, batch by batch, so that pictures are held in a quarter
            of the memory; None where they are that already.
    """

    images: Tensor
    labels: Tensor
    scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, which: Tensor | slice) -> Tensor:
        """What a network takes, (n, ...), of these examples: positions (n,) on the images' device, or a slice."""
        images = self.images.index_select(0, which) if isinstance(which, Tensor) else self.images[which]
        return images if self.scaling is None else self.scaling.apply_to(images)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of all examples in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.inputs(part), self.labels[part]

    def to(self, device: str | torch.device) -> Split:
        """The same on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Everything a recipe's data is: choices are made on `validation`, `test` is read once.

    Attributes:
        train: What networks learn from, and the only part that scaling is fitted to.
        validation: What choices are made on.
        test: What is reported, once.
        input_shape: Shape of one example: channels, height and width of an image, (2, T) of a text.
        classes: Number of classes; of values an example where those are regressed on; 0 without labels.
        class_names: A name for each class; empty where the source has none.
        labelled: Whether the source brought labels.
        preprocessing: How the inputs were made of what lies on disk; None where nobody made them of any.
    """

    train: Split
    validation: Split
    test: Split
    input_shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...] = ()
    labelled: bool = True
    preprocessing: Preprocessing | None = None


def load(spec: DataSpec, *, trained: bool = False) -> Data:
    """Read, split and scale the data. Equal specs of equal content give equal tensors; no random state is touched.

    Args:
        spec: The source, and how it is split and scaled.
        trained: Whether it is for a network that is trained already: then texts, rows of numbers, labels of any kind
            and unlabelled data are taken as well, and a class may have no example.

    Raises:
        UsageError: The source is not one, or its images cannot be split or scaled as asked.
        InputOutputError: The data is not here and cannot be had; the message says how to get it.
        CorruptError: A file is damaged or not what its digest says.
        UnavailableError: The source is another library's, which is not installed.
    """
    source = check_source_parts(_read(spec), trained=trained)
    train, validation, test = _parts(source, spec)
    scaling = _scaling(source, train, spec)
    split = _held if scaling is not None and _are_pictures(spec, train) else _split
    return Data(
        train=split(train, scaling),
        validation=split(validation, scaling),
        test=split(test, scaling),
        input_shape=train.inputs.shape[1:],
        classes=source.classes,
        class_names=source.class_names,
        labelled=source.kind != "none",
        preprocessing=_preprocessing(spec, source, train.inputs.shape[1:], scaling),
    )


def _preprocessing(spec: DataSpec, source: Source, shape: tuple[int, ...], scaling: Scaling | None) -> Preprocessing:
    if scaling is None:
        return Preprocessing("texts", shape, tokenizer=spec.tokenizer, labels=source.class_names)
    arrays = Preprocessing("arrays", shape, scaling.mean, scaling.std, source.white, labels=source.class_names)
    if not _are_pictures(spec, source.train):
        return arrays
    pictures = replace(arrays, kind="pictures", colour="grey" if shape[0] == 1 else "rgb")
    if spec.image_size is None:
        return pictures
    how, fit = spec.interpolation or "bilinear", spec.fit or "crop"
    return replace(pictures, resize=spec.resize or spec.image_size, fit=fit, interpolation=how)


def _are_pictures(spec: DataSpec, part: Part) -> bool:
    return parse_source(spec.source)[0] in (IMAGE_FOLDER, HF_DATASET) and part.inputs.dtype == np.uint8


def _read(spec: DataSpec) -> Source:
    """The source as it lies on disk. Each reader is imported when it is needed, with what it needs."""
    try:
        name, path = parse_source(spec.source)
    except ValueError as error:
        raise UsageError(f"data.source: {error}") from None
    framed = [field for field in PICTURE_FIELDS if getattr(spec, field) is not None]
    if framed and name not in (IMAGE_FOLDER, HF_DATASET):
        raise UsageError(f"data.{framed[0]} is for image-folder, and {name} keeps its size; remove data.{framed[0]}")
    if spec.tokenizer is not None and name != HF_DATASET:
        raise UsageError(f"data.tokenizer is for the text of an hf-dataset, and {name} has none; remove data.tokenizer")
    return _named(name) if path is None else _of_path(name, path, spec)


def _named(name: str) -> Source:
    if name == "digits":
        from sparsify.data.digits import read_digits

        return read_digits()
    from sparsify.data.fashion_mnist import read_fashion_mnist

    return read_fashion_mnist()


def _of_path(name: str, path: Path, spec: DataSpec) -> Source:
    if name == NPZ:
        from sparsify.data.npz import read_npz

        return read_npz(path)
    if name == TOKENS:
        from sparsify.data.tokens import read_tokens

        return read_tokens(path)
    from sparsify.data.framing import framing_of

    if name == HF_DATASET:
        from sparsify.data.hf_dataset import read_hf_dataset

        return read_hf_dataset(
            path,
            framing=framing_of(spec),
            tokenizer=spec.tokenizer,
            max_tokens=spec.max_tokens or MAX_TOKENS,
            channels=_CHANNELS.get(spec.colour or ""),
        )
    from sparsify.data.image_folder import read_image_folder

    return read_image_folder(path, framing=framing_of(spec), channels=_CHANNELS.get(spec.colour or ""))


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
    return Part(part.inputs[indices], part.labels[indices])


def _scaling(source: Source, train: Part, spec: DataSpec) -> Scaling | None:
    """How pixels and numbers are scaled; token ids are names, and are not."""
    if train.inputs.dtype == np.int64:
        return None
    return fit_scaling(source.name, train.inputs, white=source.white, how=spec.normalize)


def _held(part: Part, scaling: Scaling | None) -> Split:
    """Pictures as bytes, scaled when they are needed."""
    return Split(torch.from_numpy(part.inputs), torch.from_numpy(part.labels.copy()), scaling)


def _split(part: Part, scaling: Scaling | None) -> Split:
    inputs = part.inputs.copy() if scaling is None else scaling.apply(part.inputs)
    return Split(torch.from_numpy(inputs), torch.from_numpy(part.labels.copy()))
