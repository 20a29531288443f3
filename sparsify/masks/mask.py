"""`Mask`: which weights are kept. Immutable; parameter name -> bool tensor, True = kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError, UsageError
from sparsify.store.weights import load_tensors, save_tensors


class Mask(Mapping[str, Tensor]):
    """An immutable mask over the prunable weights of one network.

    Args:
        tensors: parameter name -> bool tensor of the parameter's shape, True = kept. Copied, and held in order
            of name, so that a mask is the same whatever it was read from.

    Raises:
        UsageError: a tensor is not of dtype bool.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise UsageError(f"mask {name}: expected a bool tensor, got {tensor.dtype}; compare scores to get one")
        self._tensors = {name: tensors[name].detach().to("cpu", copy=True) for name in sorted(tensors)}

    @classmethod
    def dense(cls, model: nn.Module, names: tuple[str, ...]) -> Mask:
        """The mask that keeps every weight of the parameters `names`."""
        parameters = dict(model.named_parameters())
        return cls({name: torch.ones_like(parameters[name], dtype=torch.bool) for name in names})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and list(self) == list(other)
            and all(torch.equal(self._tensors[name], other._tensors[name]) for name in self)
        )

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(self.layer_kept.values())

    @property
    def layer_kept(self) -> dict[str, int]:
        """Number of weights kept, by parameter."""
        return {name: int(tensor.sum()) for name, tensor in self._tensors.items()}

    @property
    def layer_density(self) -> dict[str, float]:
        """Fraction of weights kept, by parameter."""
        return {name: int(tensor.sum()) / max(tensor.numel(), 1) for name, tensor in self._tensors.items()}

    @property
    def density(self) -> float:
        """Fraction of prunable weights kept."""
        return self.kept / max(self.total, 1)

    @property
    def sparsity(self) -> float:
        """Fraction of prunable weights removed."""
        return 1.0 - self.density

    def issubset(self, other: Mask) -> bool:
        """Whether every weight kept here is kept in `other`."""
        return list(self) == list(other) and all(
            bool((other._tensors[name] | ~self._tensors[name]).all()) for name in self
        )

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the removed weights of `model` to exactly zero, in place.

        Raises:
            UsageError: the model lacks a parameter, or its shape differs.
        """
        parameters = dict(model.named_parameters())
        for name, tensor in self._tensors.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                got = tuple(parameters[name].shape) if name in parameters else "no such parameter"
                raise UsageError(
                    f"mask {name}: expected shape {tuple(tensor.shape)}, got {got}; is it this network's mask?"
                )
            parameters[name].masked_fill_(~tensor.to(parameters[name].device), 0.0)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_tensors(path, self._tensors)

    @classmethod
    def load(cls, path: Path) -> Mask:
        """Read what `save` wrote; CorruptError when it is damaged or no mask."""
        tensors = load_tensors(path)
        if bad := [name for name, tensor in tensors.items() if tensor.dtype != torch.bool]:
            raise CorruptError(f"{path}: expected a mask of bool tensors, got {tensors[bad[0]].dtype} for {bad[0]}")
        return cls(tensors)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of the weights kept; 1 for two empty masks.

    Raises:
        UsageError: the masks are of different networks.
    """
    _check_comparable(a, b)
    intersection = sum(int((a[name] & b[name]).sum()) for name in a)
    union = a.kept + b.kept - intersection
    return intersection / union if union else 1.0


def chance_iou(a: Mask, b: Mask) -> float:
    """IoU that two random masks with the per-layer counts of `a` and `b` have, as a ratio of expectations.

    In a layer of n weights of which j and k are kept, the expected intersection is j k / n (hypergeometric mean).

    Raises:
        UsageError: the masks are of different networks.
    """
    _check_comparable(a, b)
    kept_a, kept_b = a.layer_kept, b.layer_kept
    expected = sum(kept_a[name] * kept_b[name] / a[name].numel() for name in a if a[name].numel())
    union = a.kept + b.kept - expected
    return expected / union if union else 1.0


def _check_comparable(a: Mask, b: Mask) -> None:
    shapes_a, shapes_b = ({name: tuple(mask[name].shape) for name in mask} for mask in (a, b))
    if shapes_a != shapes_b:
        raise UsageError(f"masks: expected two of one network, got shapes {shapes_a} and {shapes_b}")
