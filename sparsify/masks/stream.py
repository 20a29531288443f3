"""Prune a safetensors file by magnitude, one-shot, holding a piece of it at a time.

The masks are those of `select` on the absolute values, exactly. Thresholds come from the bits of the floats
(`rank.py`): one pass of reading, two more where the sample misled, one more where ties have to be told apart between
layers, and a last that writes. Nothing is mapped or held: memory is one piece, or one band of blocks, and the keys
gathered about the threshold, whatever the file's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation
from sparsify.masks.magnitudes import READ
from sparsify.masks.plan import plan
from sparsify.masks.stream_layer import Layer
from sparsify.masks.stream_output import Output
from sparsify.recipe.pattern import Pattern
from sparsify.store.atomic import write_chunks
from sparsify.store.tensor_file import TensorFile, open_tensor_file

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
        output = Output(file, layers, todo.groups)
        write_chunks(out, output.chunks())
    report = {name: LayerReport(math.prod(shapes[name]), output.kept[name]) for name in todo.names}
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
