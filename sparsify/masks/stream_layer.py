"""One weight of a file, read in pieces: the keys its units compete by, and its bytes with the losers set to zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sparsify.masks.block import block_sums, spread, tile
from sparsify.masks.magnitudes import as_floats, as_tensor, check_finite, magnitudes, stored, width
from sparsify.masks.nm import keep_n_of_m
from sparsify.masks.rank import Flags, Keys, take
from sparsify.recipe.pattern import Pattern
from sparsify.store.tensor_file import TensorEntry, TensorFile

# Weights that are looked at in one place, where some are looked at beforehand.
_NEIGHBOURS = 128


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a layer is cut: units whose key of `bits` bits is above `key` stay, and the first `ties` that equal it."""

    key: int
    ties: int
    bits: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight to prune.

    Attributes:
        file: the open file that holds it.
        entry: where in it.
        pattern: which weights go together.
        axis: its input axis.
    """

    file: TensorFile
    entry: TensorEntry
    pattern: Pattern
    axis: int

    def keys(self, bits: int) -> Iterator[Keys]:
        """The keys of its units (weights, or sums of blocks), row-major, piece by piece; blocks need 32 bits."""
        what = f"{'blocks' if self.pattern.kind == 'block' else 'weights'} of {self.entry.name}"
        for weights in self._weights():
            keys = self._keys(weights, bits, weights)
            check_finite(keys, self.entry.dtype, what)
            yield keys

    @property
    def units(self) -> int:
        """How many units it has."""
        return math.prod(self.entry.shape) // max(self.pattern.rows * self.pattern.cols, 1)

    def sample(self, bits: int, size: int) -> Keys:
        """About `size` of its keys, from places spread evenly over it, some neighbours at each."""
        weights = self._unit() if self.pattern.kind == "block" else _NEIGHBOURS
        place = weights * width([self.entry.dtype]) // 8
        places = max(size // (weights // max(self.pattern.rows * self.pattern.cols, 1)), 1)
        whole = (self.entry.end - self.entry.start) // place
        starts = range(self.entry.start, self.entry.start + whole * place, place * max(whole // places, 1))
        found = stored(self.file.gathered(starts, place), self.entry.dtype)
        return self._keys(found, bits, found)

    def pruned(self, cut: Cut | None) -> Iterator[tuple[memoryview, int]]:
        """Its bytes with the removed weights zero, and the number of weights kept, piece by piece; n:m needs no cut."""
        ties = cut.ties if cut else 0
        buffer: Keys | None = None
        for weights in self._weights():
            buffer = np.empty(weights.size, weights.dtype) if buffer is None else buffer
            if cut is None:
                kept = self._kept_of_groups(weights, buffer)
            else:
                units, ties = take(self._keys(weights, cut.bits, buffer), cut.key, ties)
                kept = self._spread(units, weights.size)
            np.multiply(weights, kept, out=weights)
            yield weights.view(np.uint8).data, int(np.count_nonzero(kept))

    def _weights(self) -> Iterator[Keys]:
        unit = self._unit() * width([self.entry.dtype]) // 8
        for piece in self.file.pieces(self.entry.start, self.entry.end, unit=unit):
            yield stored(piece, self.entry.dtype)

    def _unit(self) -> int:
        """Weights that have to be read together."""
        match self.pattern.kind:
            case "nm":
                return self.pattern.m * self._inner()
            case "block":
                return tile(self.pattern, self.axis)[0] * math.prod(self.entry.shape[1:])
            case _:
                return 1

    def _inner(self) -> int:
        """Weights between neighbours along the input axis."""
        return math.prod(self.entry.shape[self.axis % len(self.entry.shape) + 1 :])

    def _keys(self, weights: Keys, bits: int, out: Keys) -> Keys:
        dtype = self.entry.dtype
        if self.pattern.kind != "block":
            return magnitudes(weights, dtype, into=bits, out=out)
        floats = as_floats(magnitudes(weights, dtype, into=weights.itemsize * 8, out=out), dtype)
        rows, cols = tile(self.pattern, self.axis)
        matrix = torch.from_numpy(floats.reshape(-1, math.prod(self.entry.shape[1:])))
        return block_sums(matrix, rows, cols).numpy().reshape(-1).view(np.uint32)

    def _spread(self, units: Flags, size: int) -> Flags:
        if self.pattern.kind != "block":
            return units
        rows, cols = tile(self.pattern, self.axis)
        across = math.prod(self.entry.shape[1:]) // cols
        return spread(torch.from_numpy(units.reshape(-1, across)), rows, cols, (size,)).numpy()

    def _kept_of_groups(self, weights: Keys, out: Keys) -> Flags:
        n, m = self.pattern.n, self.pattern.m
        keys = magnitudes(weights, self.entry.dtype, into=weights.itemsize * 8, out=out)
        check_finite(keys, self.entry.dtype, f"weights of {self.entry.name}")
        groups = as_tensor(keys).view(-1, m, self._inner())
        return keep_n_of_m(groups, n, m, 1).flatten().numpy()
