"""Prune the columns of a matrix one after the other and let those that follow make up for it: SparseGPT's algorithm.

Frantar & Alistarh 2023 (arXiv 2301.00774), algorithm 1, in float64 and for several matrices (groups) side by side.
With H = X X^T of the inputs, a removed weight w_j is compensated by the columns that follow, as optimal brain surgeon
would with those alone (equation 3):

    W[:, j:] -= w_j / [H_F^-1]_jj * [H_F^-1]_j,:        F = {j, j+1, ...}

All the inverses come from one: H_F^-1 is U_F^T U_F where U is the upper Cholesky factor of H^-1. What to remove is
chosen a block of columns at a time by w_j^2 / U_jj^2, from weights that are already compensated; for n:m, in each row
of every m columns when the first of them is reached.

Two small departures: columns whose inputs are all zero are not set to zero but get the damping alone, so those that are
kept keep their values; and the counts removed are exact, ties to the higher index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.masks.unstructured import removed_count
from sparsify.recipe.pattern import Pattern


@dataclass(frozen=True)
class Settings:
    """How layers are pruned: the pattern, columns a block, and damping as a fraction of the mean diagonal of H."""

    pattern: Pattern
    blocksize: int = 128
    damping: float = 0.01

    def __post_init__(self) -> None:
        if self.pattern.kind not in ("unstructured", "nm"):
            raise UsageError(
                f"sparsegpt: expected the pattern unstructured or n:m, got {self.pattern}; take another criterion"
            )
        if self.blocksize < 1 or not 0 <= self.damping < float("inf"):
            raise UsageError(
                f"sparsegpt: expected a blocksize from 1 and a damping from 0, got {self.blocksize} and {self.damping}"
            )

    @property
    def columns(self) -> int:
        """Columns a block: `blocksize`, up to the next multiple of m."""
        m = self.pattern.m or 1
        return -(-self.blocksize // m) * m


def prune_matrices(
    weight: Tensor,
    hessian: Tensor,
    settings: Settings,
    sparsity: float,
    name: str,
    done: Callable[[int], None] = lambda columns: None,
) -> tuple[Tensor, Tensor]:
    """Prune one layer given as matrices, in float64.

    Args:
        weight: (groups, rows, columns).
        hessian: X X^T of each group's inputs, (groups, columns, columns); any positive factor changes nothing.
        settings: pattern, blocksize and damping.
        sparsity: fraction to remove of all the groups' weights together; not read under n:m.
        name: the layer, for messages.
        done: told the columns done after each block of them.

    Returns:
        Bool (True = kept) and new weights, both (groups, rows, columns).

    Raises:
        UsageError: H is not positive definite even with the damping.
    """
    upper = _inverse_factor(hessian, settings.damping, name)
    weight = weight.clone()
    keep = torch.ones_like(weight, dtype=torch.bool)
    total, columns = removed_count(weight.numel(), sparsity), weight.shape[2]
    removed = 0
    for start in range(0, columns, settings.columns):
        block = slice(start, min(start + settings.columns, columns))
        factor = upper[:, block, block]
        if settings.pattern.kind == "unstructured":
            due = _rounded(total * block.stop, columns) - removed
            removed += due
            keep[:, :, block] = _keep_costliest(weight[:, :, block], factor, due)
        errors = _compensate_within(weight[:, :, block], keep[:, :, block], factor, settings.pattern)
        weight[:, :, block.stop :] -= errors @ upper[:, block, block.stop :]
        done(block.stop)
    return keep, weight.masked_fill(~keep, 0.0)


def _compensate_within(weight: Tensor, keep: Tensor, factor: Tensor, pattern: Pattern) -> Tensor:
    """Go through a block's columns, in place: compensate each removed weight by the columns to its right in the block.

    Returns the errors w_j / U_jj of the removed weights (0 for the others), which the later blocks make up for.
    """
    errors = torch.zeros_like(weight)
    for j in range(weight.shape[2]):
        if pattern.kind == "nm" and j % pattern.m == 0:
            among = slice(j, j + pattern.m)
            cost = _cost(weight[:, :, among], factor[:, among, among])
            keep[:, :, among] = ~_lowest(cost, pattern.m - pattern.n)
        errors[:, :, j] = torch.where(keep[:, :, j], 0.0, weight[:, :, j] / factor[:, j, j, None])
        weight[:, :, j:] -= errors[:, :, j, None] * factor[:, None, j, j:]
    return errors


def _inverse_factor(hessian: Tensor, damping: float, name: str) -> Tensor:
    """U, upper triangular, with U^T U = (H + damping * mean(diag H) I)^-1, by group."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    # A group that is fed nothing but zeros has no preference of its own: all its columns cost their magnitude.
    added = torch.where(mean > 0, damping * mean, 1.0)
    damped = hessian + torch.diag_embed(added.expand_as(diagonal))
    factor, failed = torch.linalg.cholesky_ex(damped)
    if not bool(failed.any()):
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
        if not bool(failed.any()) and bool(torch.isfinite(upper).all()):
            return upper
    raise UsageError(
        f"sparsegpt: expected inputs of {name} that span its {hessian.shape[1]} columns, got a singular Hessian; "
        f"give more calibration examples (--calibration N) or damp more than {damping}"
    )


def _cost(weight: Tensor, factor: Tensor) -> Tensor:
    """The error that removing a weight leaves after compensation, w_j^2 / U_jj^2: (groups, rows, columns)."""
    return (weight / factor.diagonal(dim1=1, dim2=2).unsqueeze(1)) ** 2


def _keep_costliest(weight: Tensor, factor: Tensor, count: int) -> Tensor:
    """Bool: all but the `count` cheapest of a block, over its groups and rows together."""
    cost = _cost(weight, factor)
    return ~_lowest(cost.flatten(), count).view_as(cost)


def _lowest(values: Tensor, count: int) -> Tensor:
    """Bool: the `count` lowest along the last axis; of equal values the higher index."""
    order = torch.sort(values, dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, order[..., values.shape[-1] - count :], True)


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number to a ratio, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
