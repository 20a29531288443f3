"""Least squares from sums over samples: rows of a matrix, each over the inputs that its mask keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.errors import UsageError


class Sums:
    """H = Σ x xᵀ, C = Σ y xᵀ and Σ |y|² over samples of inputs x and wanted outputs y, in float64.

    Attributes:
        xx: H, (groups, columns, columns).
        yx: C, (groups, rows, columns).
    """

    xx: Tensor
    yx: Tensor

    def __init__(self) -> None:
        self._samples, self._square = 0, 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add samples: x (groups, samples, columns) and y (groups, samples, rows), float64."""
        H, C = x.mT @ x, y.mT @ x
        self.xx, self.yx = (self.xx + H, self.yx + C) if self._samples else (H, C)
        self._samples += x.shape[1]
        self._square += float(y.square().sum())

    def mean_square(self, columns: int) -> float:
        """Mean of H's diagonal over the first `columns`: the inputs' mean square, times the samples."""
        return float(self.xx.diagonal(dim1=1, dim2=2)[:, :columns].mean())

    def error(self, w: Tensor) -> float:
        """Σ |y - w x|² over Σ |y|², for w (groups, rows, columns); 0 where all wanted outputs are zero."""
        left = self._square - 2 * float((w * self.yx).sum()) + float((w @ self.xx * w).sum())
        return max(left, 0.0) / self._square if self._square else 0.0


def solve(H: Tensor, C: Tensor, kept: Tensor, old: Tensor, ridge: Tensor, name: str) -> Tensor:
    """Each row's argmin of Σ (y - w x)² + Σ_j ridge_j (w_j - old_j)² over the columns it keeps; the others are zero.

    Rows that keep the same columns, as in blocks, are solved together.

    Args:
        H: Σ x xᵀ, (columns, columns), float64.
        C: Σ y xᵀ, (rows, columns).
        kept: bool (rows, columns).
        old: what the ridge holds weights near, (rows, columns).
        ridge: (columns,), zero or more.
        name: of the layer, for messages.

    Raises:
        UsageError: the inputs that a row keeps do not determine it, and the ridge is too small.
    """
    new, damped = torch.zeros_like(old), H + ridge.diag()
    wanted = C + ridge * old
    patterns, which = torch.unique(kept, dim=0, return_inverse=True)
    for number, columns in enumerate(patterns):
        S = columns.nonzero().squeeze(1)
        rows = (which == number).nonzero().squeeze(1)
        if not len(S):
            continue
        factor, failed = torch.linalg.cholesky_ex(damped.index_select(0, S).index_select(1, S))
        if int(failed):
            raise UsageError(
                f"reconstruct: {name}: expected calibration inputs that determine the kept weights, got dependent "
                "ones; raise damping, or take more examples"
            )
        right = wanted.index_select(0, rows).index_select(1, S)
        new[rows[:, None], S] = torch.cholesky_solve(right.mT, factor).mT
    return new
