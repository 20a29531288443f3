"""Where each layer of a file is cut, so that its group keeps exactly as many units as planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sparsify.masks.magnitudes import width
from sparsify.masks.rank import Keys, threshold
from sparsify.masks.stream_layer import Cut, Layer

# Keys of a group that are looked at beforehand, to know about where the threshold is.
_SAMPLE = 1 << 17


def cuts(layers: Mapping[str, Layer], count: int) -> dict[str, Cut]:
    """The cut of every layer of a group that keeps `count` units together.

    Args:
        layers: by name, in the order in which ties are kept.
        count: units that the group keeps.
    """
    blocks = any(layer.pattern.kind == "block" for layer in layers.values())
    bits = 32 if blocks else width([layer.entry.dtype for layer in layers.values()])
    if count == 0:
        return {name: Cut((1 << bits) - 1, 0, bits) for name in layers}
    total = sum(layer.units for layer in layers.values())
    sample = _sample(list(layers.values()), bits, total) if bits > 16 and total > _SAMPLE else None
    cut = threshold(
        lambda: (keys for layer in layers.values() for keys in layer.keys(bits)), count, total, bits=bits, sample=sample
    )
    if cut.ties == cut.equal and cut.key > 0:  # no tie is lost: one comparison does
        return {name: Cut(cut.key - 1, 0, bits) for name in layers}
    if len(layers) == 1 or cut.ties == cut.equal:
        return {name: Cut(cut.key, cut.ties, bits) for name in layers}
    shares: dict[str, Cut] = {}
    ties = cut.ties
    for name, layer in layers.items():
        equal = sum(int(np.count_nonzero(keys == cut.key)) for keys in layer.keys(bits)) if ties else 0
        shares[name] = Cut(cut.key, min(ties, equal), bits)
        ties -= shares[name].ties
    return shares


def _sample(layers: Sequence[Layer], bits: int, total: int) -> Keys:
    """Keys from places spread evenly over the layers; a layer has its share of them."""
    size = min(_SAMPLE, total // 16)
    return np.concatenate([layer.sample(bits, size * layer.units // total) for layer in layers])
