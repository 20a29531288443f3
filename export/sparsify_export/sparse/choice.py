"""Sparse or dense, and by which kernel: by what each is expected to cost here, or by a sparsity that was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify_export.sparse.layers import Floats, Layer, Window
from sparsify_export.sparse.neighbours import Fused
from sparsify_export.sparse.options import Precision

Blob: TypeAlias = NDArray[np.uint8]
Pack: TypeAlias = Callable[..., Blob]
Costs: TypeAlias = Callable[[Blob, Window | None, tuple[int, ...]], Mapping[str, float]]
"""Of packed weights, a window and the input's shape: by kernel that serves them here, the nanoseconds expected."""

DEFAULT_SPARSITY = 0.6
"""From here a layer is replaced where no cost model is at hand: above the break-even of every kind of layer measured in
fp32 with AVX-512 (linear 0.4, 1x1 convolutions 0.5, 3x3 0.55)."""
_BLOCKS = {"block_1x4": (1, 4), "rows_32": (32, 1), "rows_16": (16, 1)}
"""Rows and columns that a pattern of the packing keeps or drops together, the pattern to be preferred first."""
_BLOCKS_WASTE = 1.05
"""Blocks are taken where they store at most so many times the weights that are not zero."""

_MARGIN_US, _MARGIN = 0.5, 1.15
"""What a sparse layer must be expected to gain when it takes so many times its expected time: layers of a few
microseconds are timed no better than that, and in networks layers were seen to take a sixth longer than by themselves.
"""

_DENSE_PENALTY = 1.25
"""Dense integers must be expected to be so many times as fast as sparse ones before they are stored in more bytes."""


@dataclass(frozen=True)
class Chosen:
    """What one layer becomes; without a blob it stays dense."""

    reason: str
    blob: Blob | None = None
    kernel: str = "auto"
    precision: Precision = "f32"
    pattern: str = ""
    dense_us: float | None = None
    sparse_us: float | None = None

    def left_dense(self, why: str) -> Chosen:
        """The same layer, not replaced after all."""
        return Chosen(f"{self.reason}, but better dense {why}", dense_us=self.dense_us, sparse_us=self.sparse_us)


@dataclass(frozen=True)
class Rule:
    """How layers are chosen: a sparsity from which they are replaced, or costs that are compared, or both unknown."""

    pack: Pack
    precision: Precision = "f32"
    """`i8` allows it: where times are compared, a layer that is faster in fp32 is stored so."""
    min_sparsity: float | None = None
    """None is `auto`."""
    costs: Costs | None = None
    dense_cost: Callable[[Layer], float] | None = None
    """Nanoseconds of the layer as it is, in ONNX Runtime; needed to compare with `costs`."""

    @property
    def words(self) -> str:
        """Which layers are replaced, for people."""
        if self.min_sparsity is not None:
            return f"those of sparsity {self.min_sparsity:g} or more are, as asked"
        if self._compared:
            least = ", each in the faster precision" if len(self._precisions) > 1 else ""
            return f"those expected to be faster sparse than dense are{least}"
        return f"those of sparsity {DEFAULT_SPARSITY:g} or more are, for want of a cost model"

    def choose(self, fused: Fused, source_shape: tuple[int, ...]) -> Chosen:
        """Sparse or dense for one layer whose input has this shape."""
        sparsity = fused.layer.sparsity
        least = DEFAULT_SPARSITY if self.min_sparsity is None else self.min_sparsity
        if not self._compared and sparsity < least:
            return Chosen(f"sparsity {sparsity:.1%} is below {least:.1%}")
        if self.min_sparsity is None and fused.layer.in_integers:
            return Chosen("it is quantised: ONNX Runtime multiplies its integers, and the operators take floats")
        matrix = np.ascontiguousarray(fused.matrix)
        candidates = [
            self._candidate(fused, matrix, precision, pattern, source_shape)
            for precision in self._precisions
            for pattern in self._patterns(matrix, precision)
        ]
        best = _best(candidates)
        if best.blob is None or not self._compared or self.dense_cost is None:
            return best
        dense_us = self.dense_cost(fused.layer) / 1e3
        expected = f"expected {_expected(candidates)}, {dense_us:.4g} us dense"
        if best.sparse_us is None or not _MARGIN * best.sparse_us + _MARGIN_US < dense_us:
            near = best.sparse_us is not None and best.sparse_us < dense_us
            reason = expected + ": too near to be worth it" * near
            return Chosen(reason, dense_us=dense_us, sparse_us=best.sparse_us)
        return replace(best, reason=expected, dense_us=dense_us)

    @property
    def _compared(self) -> bool:
        return self.min_sparsity is None and self.costs is not None and self.dense_cost is not None

    @property
    def _precisions(self) -> Sequence[Precision]:
        return ("i8", "f32") if self.precision == "i8" and self._compared else (self.precision,)

    def _candidate(
        self, fused: Fused, matrix: Floats, precision: Precision, pattern: str, source_shape: tuple[int, ...]
    ) -> Chosen:
        try:
            blob = self.pack(matrix, precision=precision, pattern=pattern)
        except ValueError as error:  # the packing's FormatError: weights that are not finite
            return Chosen(f"it cannot be packed: {error}")
        reason = f"sparsity {fused.layer.sparsity:.1%}"
        if self.costs is None:
            return Chosen(reason, blob, "auto", precision, pattern)
        costs = self.costs(blob, fused.layer.window, source_shape)
        kernel = min(costs, key=lambda name: costs[name], default="")
        if not kernel:
            return Chosen("no kernel here serves it")
        return Chosen(reason, blob, kernel, precision, pattern, sparse_us=costs[kernel] / 1e3)

    def _patterns(self, matrix: Floats, precision: Precision) -> Sequence[str]:
        """The patterns worth packing; more than one only where costs can decide between them."""
        blocks = _blocks(matrix)
        if self.costs is None:
            # Blocks are what 8-bit dot products take; in fp32 they only save bits of the mask.
            return blocks[:1] if blocks and precision == "i8" else ["unstructured"]
        dense = ["dense"] if precision == "i8" else []
        return ["unstructured", *blocks, *dense]


def _best(candidates: Sequence[Chosen]) -> Chosen:
    """The least microseconds, where dense storage of more bytes than sparse counts for more; then the fewest bytes."""
    fewest = min((one.blob.nbytes for one in candidates if one.blob is not None and one.pattern != "dense"), default=0)

    def preference(one: Chosen) -> tuple[float, int]:
        if one.blob is None or one.sparse_us is None:
            return math.inf, 0
        penalty = _DENSE_PENALTY if one.pattern == "dense" and one.blob.nbytes > fewest else 1.0
        return one.sparse_us * penalty, one.blob.nbytes

    return min(candidates, key=preference)


def _expected(candidates: Sequence[Chosen]) -> str:
    """The least microseconds of each precision, for people."""
    least: dict[Precision, float] = {}
    for one in candidates:
        if one.sparse_us is not None:
            least[one.precision] = min(one.sparse_us, least.get(one.precision, math.inf))
    return ", ".join(f"{us:.4g} us sparse" + (f" in {name}" if len(least) > 1 else "") for name, us in least.items())


def _blocks(matrix: Floats) -> Sequence[str]:
    """The patterns of blocks that the zeros have; not blocks of 16 rows where they are blocks of 32 already."""
    found = [name for name, block in _BLOCKS.items() if _waste(matrix, *block) <= _BLOCKS_WASTE]
    return [name for name in found if name != "rows_16" or "rows_32" not in found]


def _waste(matrix: Floats, high: int, wide: int) -> float:
    """Values that blocks of so many rows and columns would store, over those that are not zero."""
    nonzero = matrix != 0
    rows, columns = nonzero.shape
    whole = np.pad(nonzero, ((0, -rows % high), (0, -columns % wide))) if rows % high or columns % wide else nonzero
    blocks = int(np.count_nonzero(whole.reshape(-1, high, whole.shape[1] // wide, wide).any(axis=(1, 3))))
    return high * wide * blocks / max(1, int(np.count_nonzero(nonzero)))
