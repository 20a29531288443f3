"""From pixels to the float32 that networks see, by statistics of the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify.recipe.spec import MomentsSpec

if TYPE_CHECKING:
    from torch import Tensor

Normalize = Literal["unit", "standard", "imagenet", "none"] | MomentsSpec

# Red, green and blue, of pixels in [0, 1]; torchvision's and timm's classification weights are trained with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CHUNK = 1024  # images at a time, so that temporary arrays stay small


@dataclass(frozen=True, slots=True)
class Scaling:
    """Per channel, `scaled = (pixel - mean) / std`, both in pixel values."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Scaled float32 images of uint8 or float32 images (N, C, H, W), or of rows of numbers (N, D)."""
        scaled = np.empty(pixels.shape, np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            np.subtract(pixels[:, channel], np.float32(mean), out=scaled[:, channel], dtype=np.float32)
            scaled[:, channel] *= np.float32(1 / std)
        return scaled

    def apply_to(self, pixels: Tensor) -> Tensor:
        """The same of a tensor on any device: the same operations in the same order, hence the same bits."""
        import torch

        shape = (1, -1) + (1,) * (pixels.ndim - 2)
        mean, factor = (
            torch.tensor(values, dtype=torch.float32, device=pixels.device).reshape(shape)
            for values in (self.mean, tuple(1 / std for std in self.std))
        )
        return pixels.to(torch.float32, copy=True).sub_(mean).mul_(factor)


def fit_scaling(name: str, pixels: NDArray[Any], *, white: float, how: Normalize) -> Scaling:
    """What takes these training images to [0, 1] (`unit`), or to mean 0 and deviation 1 per channel (`standard`).

    `imagenet` is `unit` and then ImageNet's own means and deviations, which networks trained on it expect, and a mean
    and std are any other's; `none` leaves values as they are. A channel that never varies is shifted to 0 and not
    stretched. The statistics of uint8 images are exact integers, hence equal on every machine.

    Args:
        name: What errors call the source.
        pixels: The training images (N, C, H, W), uint8 or float32, or rows of numbers (N, D), float32.
        white: Pixel value that stands for 1.0.
        how: The recipe's `data.normalize`.

    Raises:
        UsageError: Anything but `standard` and `none` was asked of float images that are not in [0, 1], or means and
            deviations of images that have another number of channels.
    """
    channels = pixels.shape[1]
    if how == "none":
        return Scaling((0.0,) * channels, (1.0,) * channels)
    if how != "standard":
        _check_unit(name, pixels, white, how)
        means, deviations = _given(name, pixels.shape, how)
        return Scaling(tuple(mean * white for mean in means), tuple(white * deviation for deviation in deviations))
    moments = [_moments(pixels[:, channel]) for channel in range(channels)]
    return Scaling(tuple(mean for mean, _ in moments), tuple(std if std > 0 else white for _, std in moments))


def _check_unit(name: str, pixels: NDArray[Any], white: float, how: Normalize) -> None:
    if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > white):
        raise UsageError(
            f"{name}: data.normalize = {_word(how)} expects float images in [0, {white:g}], got [{pixels.min():g}, "
            f"{pixels.max():g}]; write normalize: standard, or give uint8"
        )


def _word(how: Normalize) -> str:
    return how if isinstance(how, str) else "mean and std"


def _given(name: str, shape: tuple[int, ...], how: Normalize) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations, of pixels in [0, 1], that are not fitted."""
    channels = shape[1]
    if how == "unit":
        return (0.0,) * channels, (1.0,) * channels
    if isinstance(how, MomentsSpec):
        if len(how.mean) != channels or len(how.std) != channels:
            raise UsageError(
                f"{name}: data.normalize: expected a mean and a std for each of {channels} channels, got "
                f"{len(how.mean)} and {len(how.std)}; data.colour says how many pictures have"
            )
        return how.mean, how.std
    if channels != 3 or len(shape) != 4:
        raise UsageError(
            f"{name}: data.normalize = imagenet expects images of 3 channels, got shape {shape[1:]}; "
            "write normalize: standard"
        )
    return IMAGENET_MEAN, IMAGENET_DEVIATION


def _moments(channel: NDArray[Any]) -> tuple[float, float]:
    """Mean and population deviation of one channel (N, ...), in pixel values."""
    if channel.dtype != np.uint8:
        mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in _chunks(channel)) / channel.size
        squares = sum(float(np.square(chunk - mean, dtype=np.float64).sum()) for chunk in _chunks(channel))
        return mean, float(np.sqrt(squares / channel.size))
    total = sum(int(chunk.sum(dtype=np.uint64)) for chunk in _chunks(channel))
    squares = sum(int(np.square(chunk, dtype=np.uint32).sum(dtype=np.uint64)) for chunk in _chunks(channel))
    variance = (channel.size * squares - total * total) / channel.size**2
    return total / channel.size, float(np.sqrt(variance))


def _chunks(channel: NDArray[Any]) -> list[NDArray[Any]]:
    return [channel[start : start + CHUNK] for start in range(0, len(channel), CHUNK)]
