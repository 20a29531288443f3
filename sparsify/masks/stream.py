"""Prune safetensors files by magnitude, one-shot, holding a piece of them at a time.

The masks are those of `select` on the absolute values, exactly. Thresholds come from the bits of the floats
(`rank.py`): one pass of reading, two more where the sample misled, one more where ties have to be told apart between
layers, and a last that writes. Nothing is mapped or held: memory is one piece, or one band of blocks, and the keys
gathered about the threshold, whatever the file's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, UsageError
from sparsify.masks.allocate import Allocation
from sparsify.masks.magnitudes import READ
from sparsify.masks.overrides import globs_of, shares_of
from sparsify.masks.plan import plan, require_some
from sparsify.masks.stream_layer import Layer
from sparsify.masks.stream_output import Cuts, Output
from sparsify.recipe.pattern import Pattern
from sparsify.store.atomic import new_folder, write_bytes, write_chunks
from sparsify.store.shards import INDEX, shard_names
from sparsify.store.tensor_file import TensorEntry, TensorFile, open_tensor_file

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
    pattern: str | Pattern = "unstructured",
    sparsity: float | None = None,
    allocation: Allocation = "global",
    overrides: Mapping[str, float] | None = None,
    include: Sequence[str] = (),
    axes: Mapping[str, int] | None = None,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _note: None,
) -> FileReport:
    """Write a copy of a safetensors file, or of several with an index, in which the smallest weights are zero.

    Tensors that are not pruned keep their bytes, the header stays as it is; only the checksum of a file that carries
    ours is made anew. `out` appears whole or not at all; of one file it may be `source` itself.

    Args:
        source: safetensors file, or the `.index.json` of several; float32, float16 and bfloat16 weights are pruned.
        out: where the pruned file goes; of several the folder, new, for them and their index.
        pattern: `unstructured`, `n:m` or `block:RxC`; see `select`.
        sparsity: fraction to remove; for n:m it follows from the pattern.
        allocation: `global`, over all files, `uniform` or `erk`; see `select`.
        overrides: glob over layers or tensors -> sparsity, 0 leaves it as it is; see `select`.
        include: globs over tensor names to prune; none for all floating tensors of two dimensions or more.
        axes: tensor name -> input axis, where it is not 1.
        progress: told megabytes written, how many there will be, and a note.

    Raises:
        CorruptError: `source` is damaged, or its own checksum does not hold.
        InputOutputError: reading or writing failed; `out` was not replaced.
        UsageError: nothing to prune, a weight that is not finite, or what `select` refuses.
    """
    source, out, include = Path(source), Path(out), globs_of("include", include)
    shares = shares_of("overrides", overrides)
    parsed = Pattern.of(pattern)
    sharded = source.name.endswith(INDEX)
    paths = [source.with_name(name) for name in shard_names(source)] if sharded else [source]
    told = _Told(progress)
    with ExitStack() as stack:
        files = [stack.enter_context(open_tensor_file(path, told.read)) for path in paths]
        told.size = sum(file.size for file in files)
        held = _tensors(source, files)
        names, unread = _choose(source, [entry for _, entry in held.values()], include)
        shapes = {name: held[name][1].shape for name in names}
        todo = plan(
            shapes,
            pattern=parsed,
            sparsity=sparsity,
            allocation=allocation,
            overrides=shares,
            axes=axes or {},
        )
        require_some(todo, parsed)
        cuts = Cuts({name: Layer(*held[name], parsed, (axes or {}).get(name, 1)) for name in todo.names}, todo.groups)
        outputs = {file.path.name: Output(file, cuts) for file in files}
        if sharded:
            with new_folder(out) as folder:
                for name, output in outputs.items():
                    write_chunks(folder / name, told.written(output.chunks()))
                write_bytes(folder / source.name, source.read_bytes())
        else:
            write_chunks(out, told.written(outputs[source.name].chunks()))
    kept = {name: count for output in outputs.values() for name, count in output.kept.items()}
    report = {name: LayerReport(math.prod(shapes[name]), kept[name]) for name in todo.names}
    return FileReport(report, dict(sorted((unread | todo.skipped).items())))


class _Told:
    """How far it is: megabytes written of those there will be, and megabytes read, which may be several times that."""

    def __init__(self, tell: Callable[[int, int, str], None]) -> None:
        self._tell, self._read, self._written, self.size = tell, 0, 0, 0

    def read(self, count: int) -> None:
        self._read += count
        self._tell(self._written // 10**6, self.size // 10**6, f"MB written, {self._read // 10**6:,} read")

    def written(self, chunks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            yield chunk
            self._written += len(chunk)


def _tensors(source: Path, files: Sequence[TensorFile]) -> dict[str, tuple[TensorFile, TensorEntry]]:
    """Every tensor by name, and the file that holds it."""
    held: dict[str, tuple[TensorFile, TensorEntry]] = {}
    for file in files:
        for name, entry in file.tensors.items():
            if name in held:
                raise CorruptError(f"{source}: expected each tensor in one file, got {name} in two; save it again")
            held[name] = file, entry
    return held


def _choose(source: Path, entries: Sequence[TensorEntry], include: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors to prune, and why others of those asked for cannot be."""
    for glob in include:
        if not any(fnmatchcase(entry.name, glob) for entry in entries):
            there = ", ".join(entry.name for entry in entries)
            raise UsageError(f"include: {glob!r} matches no tensor of {source}; there are {there}")
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
            f"{source}: expected weights to prune, got none among {len(entries)} tensors; "
            "name them with include, as float32, float16 or bfloat16"
        )
    return names, unread
