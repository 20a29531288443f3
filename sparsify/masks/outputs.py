"""Whole outputs of a layer as a mask: what stands in for removed channels where a network cannot be cut.

The outputs' weights are zero and stay where they are, so that nothing else in the network has to fit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask


def select_outputs(scores: Mapping[str, Tensor], sparsity: float, *, keep: Collection[str] = ()) -> Mask:
    """Remove whole outputs, lowest mean score first, until at least `sparsity` of all weights is gone.

    Mean scores are divided by their layer's, so that layers of any scale compete; of equal ones the higher index goes
    first. Every layer keeps an output.

    Args:
        scores: parameter name -> scores (out, ...), finite and not negative; the highest are kept.
        sparsity: fraction of the weights of all parameters to remove, from 0 to below 1.
        keep: parameters left whole.

    Raises:
        UsageError: so many weights cannot go, since `keep` and one output a layer stay.
    """
    kept = {name: torch.ones(tensor.shape, dtype=torch.bool) for name, tensor in sorted(scores.items())}
    asked = sparsity * sum(tensor.numel() for tensor in scores.values())
    left = {name: tensor.shape[0] for name, tensor in scores.items()}
    removed = 0
    for _, negative_index, name in sorted(_units(scores, keep)):
        if removed >= asked:
            break
        if left[name] > 1:
            kept[name][-negative_index] = False
            left[name] -= 1
            removed += scores[name][0].numel()
    if removed < asked:
        most = removed / max(sum(tensor.numel() for tensor in scores.values()), 1)
        raise UsageError(f"sparsity: expected at most {most:.3f}, with an output left in each layer, got {sparsity}")
    return Mask(kept)


def _units(scores: Mapping[str, Tensor], keep: Collection[str]) -> list[tuple[float, int, str]]:
    """(score, minus index, name) of every output that may go."""
    units: list[tuple[float, int, str]] = []
    for name, tensor in scores.items():
        if name not in keep:
            means = tensor.detach().cpu().double().flatten(1).mean(1)
            scaled = means / means.mean().clamp_min(torch.finfo(torch.float64).tiny)
            units += [(float(value), -index, name) for index, value in enumerate(scaled)]
    return units
