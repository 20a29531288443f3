"""Prune a safetensors file by magnitude, one-shot, holding a piece of it at a time.

The masks are those of `select` on the absolute values, exactly. Thresholds come from the bits of the floats
(`rank.py`): one pass of reading, two more where the sample misled, one more where ties have to be told apart between
layers, and a last that writes. Nothing is mapped or held: memory is one piece, or one band of blocks, and the keys
gathered about the threshold, whatever the file's size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, UsageError
from sparsify.masks.allocate import Allocation
from sparsify.masks.magnitudes import READ
from sparsify.masks.plan import plan
from sparsify.masks.stream_layer import Cut, Layer
from sparsify.masks.stream_threshold import cuts
from sparsify.recipe.pattern import Pattern
from sparsify.store.atomic import write_chunks
from sparsify.store.digest import canonical_json
from sparsify.store.tensor_file import METADATA, TensorFile, open_tensor_file
from sparsify.store.weights import CHECKSUM

_FLOATING = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Weights of one layer, and how many of them were kept."""

    total: int
    kept: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was done to a file: the layers that were pruned, and why others of those asked for were left dense."""

    layers: dict[str, LayerReport]
    skipped: dict[str, str]

    @property
    def sparsity(self) -> float:
        """Fraction removed of the weights in the pruned layers."""
        total = sum(layer.total for layer in self.layers.values())
        return 1 - sum(layer.kept for layer in self.layers.values()) / max(total, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {"sparsity": self.sparsity, **asdict(self)}


def prune_file(
    source: Path,
    out: Path,
    *,
    pattern: Pattern,
    sparsity: float | None = None,
    allocation: Allocation = "global",
    overrides: Mapping[str, float] | None = None,
    include: Sequence[str] = (),
    axes: Mapping[str, int] | None = None,
) -> FileReport:
    """Write a copy of a safetensors file in which the smallest weights are zero.

    Tensors that are not pruned keep their bytes, the header stays as it is; only the checksum of a file that carries
    ours is made anew. `out` appears whole or not at all, and may be `source` itself.

    Args:
        source: safetensors file; float32, float16 and bfloat16 weights are pruned.
        out: where the pruned file goes.
        pattern: `unstructured`, `n:m` or `block:RxC`; see `select`.
        sparsity: fraction to remove; for n:m it follows from the pattern.
        allocation: see `select`.
        overrides: glob over tensor names -> sparsity of that layer; see `select`.
        include: globs over tensor names to prune; none for all floating tensors of two dimensions or more.
        axes: tensor name -> input axis, where it is not 1.

    Raises:
        CorruptError: `source` is damaged, or its own checksum does not hold.
        InputOutputError: reading or writing failed; `out` was not replaced.
        UsageError: nothing to prune, a weight that is not finite, or what `select` refuses.
    """
    with open_tensor_file(source) as file:
        names, unread = _choose(file, include)
        shapes = {name: file.tensors[name].shape for name in names}
        todo = plan(
            shapes,
            pattern=pattern,
            sparsity=sparsity,
            allocation=allocation,
            overrides=overrides or {},
            axes=axes or {},
        )
        layers = {name: Layer(file, file.tensors[name], pattern, (axes or {}).get(name, 1)) for name in todo.names}
        found = cuts(layers, todo.groups)
        kept: dict[str, int] = {}
        write_chunks(out, _output(file, layers, found, kept))
    report = {name: LayerReport(math.prod(shapes[name]), kept[name]) for name in todo.names}
    return FileReport(report, dict(sorted((unread | todo.skipped).items())))


def _choose(file: TensorFile, include: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors to prune, and why others of those asked for cannot be."""
    for glob in include:
        if not any(fnmatchcase(name, glob) for name in file.tensors):
            raise UsageError(f"include: {glob!r} matches no tensor of {file.path}; there are {', '.join(file.tensors)}")
    entries = file.tensors.values()
    if include:
        asked = [entry for entry in entries if any(fnmatchcase(entry.name, glob) for glob in include)]
    else:
        asked = [entry for entry in entries if entry.dtype in _FLOATING and len(entry.shape) >= 2]
    unread = {
        entry.name: f"is of dtype {entry.dtype}: only {', '.join(sorted(READ))} are pruned in a file"
        for entry in asked
        if entry.dtype not in READ
    }
    names = [entry.name for entry in asked if entry.name not in unread]
    if not names:
        raise UsageError(
            f"{file.path}: expected weights to prune, got none among {len(file.tensors)} tensors; "
            "name them with include, as float32, float16 or bfloat16"
        )
    return names, unread


def _output(
    file: TensorFile, layers: Mapping[str, Layer], found: Mapping[str, Cut], kept: dict[str, int]
) -> Iterator[bytes | memoryview]:
    """The header, then every tensor in the order of its bytes."""
    yield _head(file, layers, found) if CHECKSUM in file.metadata else file.head
    yield from _payload(file, layers, found, kept)


def _payload(
    file: TensorFile, layers: Mapping[str, Layer], found: Mapping[str, Cut], kept: dict[str, int]
) -> Iterator[memoryview]:
    for entry in file.tensors.values():
        if entry.name not in layers:
            yield from file.pieces(entry.start, entry.end)
            continue
        kept[entry.name] = 0
        for piece, count in layers[entry.name].pruned(found.get(entry.name)):
            kept[entry.name] += count
            yield piece


def _head(file: TensorFile, layers: Mapping[str, Layer], found: Mapping[str, Cut]) -> bytes:
    """The header of a file that carries our checksum, with the checksum of what is about to be written."""
    metadata = file.metadata
    claimed = metadata.pop(CHECKSUM)
    header = file.header | {METADATA: metadata}
    before, after = (hashlib.sha256(canonical_json(header)) for _ in range(2))
    for entry in file.tensors.values():
        for piece in file.pieces(entry.start, entry.end):
            before.update(piece)
    if before.hexdigest() != claimed:
        raise CorruptError(f"{file.path}: changed since it was written: its contents do not match its own checksum")
    for piece in _payload(file, layers, found, {}):
        after.update(piece)
    header[METADATA] = metadata | {CHECKSUM: after.hexdigest()}
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
