"""The pruned file: a copy of the dense one with zeros over the bytes of removed weights, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.atomic import write_chunks
from sparsify_export.pruning.tensors import Bools, Stored, external_files
from sparsify_export.pruning.wire import Skeleton, read_skeleton

_CHUNK = 1 << 24


def destinations(skeleton: Skeleton, out: Path) -> dict[Path, Path]:
    """Where each file of the graph goes: itself to `out`, the files of its weights beside that, under their names.

    Raises:
        UsageError: That would overwrite the dense graph, or a file that belongs to neither graph.
        CorruptError: A file of weights is named outside the graph's own folder, is missing, or is too short.
    """
    source, beside = skeleton.path, external_files(skeleton)
    if out.resolve() == source.resolve():
        raise UsageError(
            f"{out}: expected another file than the dense graph, which is kept; write the pruned one elsewhere"
        )
    if out.is_dir():
        raise UsageError(
            f"{out}: expected a file to write, got a folder; name the file in it, such as {out / 'model.onnx'}"
        )
    targets = {source: out}
    for location, path in beside.items():
        target = out.parent / location
        if target.resolve() == path.resolve() or target.resolve() == out.resolve():
            raise UsageError(
                f"{out}: the dense graph keeps weights in {path}, which stays as it is; write the pruned one into "
                "another folder"
            )
        if target.exists() and location not in _belonging(out):
            raise UsageError(
                f"{target}: expected no such file yet, got one that is not {out.name}'s; choose another folder"
            )
        targets[path] = target
    return targets


def write_pruned(
    targets: Mapping[Path, Path], source: Path, kept: Mapping[str, Callable[[], Bools]], tensors: Sequence[Stored]
) -> None:
    """Write every file of the pruned graph, the graph last; each appears whole or not at all.

    An older graph at the same place is removed before its weights are replaced: a kill leaves the old one, none or the
    new one, never a mixture.

    Args:
        targets: See `destinations`.
        source: The dense graph.
        kept: For each pruned tensor its mask, shaped as stored, made when it is its turn.
        tensors: The pruned tensors.

    Raises:
        InputOutputError: Disk full, no permission and the like.
    """
    if len(targets) > 1:
        targets[source].unlink(missing_ok=True)
    for path in sorted(targets, key=lambda path: path == source):
        write_chunks(targets[path], _patched(path, [one for one in tensors if one.path == path], kept))


def _patched(
    path: Path, tensors: Sequence[Stored], kept: Mapping[str, Callable[[], Bools]]
) -> Iterator[bytes | memoryview]:
    at = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.span.offset):
        yield from between(path, at, tensor.span.offset)
        yield tensor.zeroed(kept[tensor.name]()).data
        at = tensor.span.offset + tensor.span.length
    yield from between(path, at, path.stat().st_size)


def between(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `stop`, a chunk at a time."""
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            chunk = file.read(min(_CHUNK, stop - start))
            if not chunk:
                raise InputOutputError(f"{path}: became shorter while it was read; prune it again")
            start += len(chunk)
            yield chunk


def _belonging(out: Path) -> set[str]:
    """Names of the files that an older graph at `out` keeps its weights in."""
    if not out.is_file():
        return set()
    try:
        return set(external_files(read_skeleton(out)))
    except CorruptError:
        return set()
