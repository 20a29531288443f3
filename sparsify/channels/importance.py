"""How much a unit of a group is worth: the scores of all weights that go with it.

I(u) is the sum of the scores of every prunable weight in unit u's slices, in the layers that write it and in those that
read it, divided by the mean of |I| over the group, so that groups of layers of any size can compete, also where scores
are signed (movement, GraSP). Scores are those of the criterion: of magnitude, I is the L1 norm of everything coupled.
Source: Fang et al. 2023, "DepGraph", arXiv 2301.12900, equation 4 and section 3.4 (group importance, normalised within
the group).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsify.channels.group import Cut, Group
from sparsify.errors import UsageError


def importance(group: Group, scores: Mapping[str, Tensor]) -> Tensor:
    """Importance of each unit (units,), float64 on the CPU, of mean magnitude 1; all ones where no member has scores.

    Args:
        group: A group whose tensors `scores` names; tensors without scores count nothing.
        scores: Weight name -> score of each weight, of its shape; higher = keep.
    """
    total = torch.zeros(group.units, dtype=torch.float64)
    for cut in group.cuts:
        if cut.tensor in scores:
            total += _by_unit(cut, scores[cut.tensor])
    mean = float(total.abs().mean())
    return total / mean if mean > 0 else torch.ones_like(total)


def check_scores(model: nn.Module, scores: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    """Refuse scores that do not cover the prunable weights `names`, or are not finite.

    Raises:
        UsageError: Naming the parameter.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        if name not in scores or scores[name].shape != parameters[name].shape:
            got = tuple(scores[name].shape) if name in scores else "none"
            raise UsageError(f"scores of {name}: expected shape {tuple(parameters[name].shape)}, got {got}")
        if not bool(torch.isfinite(scores[name]).all()):
            raise UsageError(f"scores of {name}: expected finite numbers, got nan or inf")


def _by_unit(cut: Cut, scores: Tensor) -> Tensor:
    """Sum of the scores in each unit's slices."""
    rows = scores.detach().to("cpu", torch.float64).movedim(cut.axis, 0).flatten(1).sum(1)
    index = torch.tensor([i for unit in cut.places for i in unit], dtype=torch.long)
    unit = torch.repeat_interleave(torch.tensor([len(places) for places in cut.places]))
    return torch.zeros(len(cut.places), dtype=torch.float64).index_add_(0, unit, rows[index])
