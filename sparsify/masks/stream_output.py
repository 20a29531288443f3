"""The bytes of a pruned file, in order: the header, then every tensor, its cut found just before it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from sparsify.errors import CorruptError
from sparsify.masks.plan import Group
from sparsify.masks.stream_layer import Cut, Layer
from sparsify.masks.stream_threshold import cuts
from sparsify.store.digest import canonical_json
from sparsify.store.tensor_file import METADATA, TensorFile
from sparsify.store.weights import CHECKSUM


class Cuts:
    """Where layers are cut, found when a layer is asked for.

    Args:
        layers: what is pruned, by name, of one file or of several.
        groups: which of them compete, and how many units they keep; those in no group need no cut.
    """

    def __init__(self, layers: Mapping[str, Layer], groups: Sequence[Group]) -> None:
        self.layers = layers
        self._group = {name: group for group in groups for name in group.names}
        self._found: dict[str, Cut] = {}

    def of(self, name: str) -> Cut | None:
        """The layer's cut, and with it those of all that it competes with; None where it needs none."""
        group = self._group.get(name)
        if group is not None and name not in self._found:
            self._found |= cuts({member: self.layers[member] for member in group.names}, group.kept)
        return self._found.get(name)


class Output:
    """What is written in the place of a file.

    Args:
        file: what is pruned.
        cuts: of its layers, and of those of other files that they compete with.

    Attributes:
        kept: weights kept in each layer, complete once `chunks` is.
    """

    def __init__(self, file: TensorFile, cuts: Cuts) -> None:
        self._file, self._cuts = file, cuts
        self.kept: dict[str, int] = {}

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The whole file; a chunk may be overwritten by the next one.

        Raises:
            CorruptError: the file carries a checksum of ours that does not hold.
            InputOutputError: the file cannot be read.
            UsageError: a weight that competes is not finite.
        """
        yield self._checked_head() if CHECKSUM in self._file.metadata else self._file.head
        yield from self._payload()

    def _payload(self) -> Iterator[memoryview]:
        for entry in self._file.tensors.values():
            if entry.name in self._cuts.layers:
                yield from self._pruned(entry.name)
            else:
                yield from self._file.pieces(entry.start, entry.end)

    def _pruned(self, name: str) -> Iterator[memoryview]:
        # Only now: a layer that competes with no other is then still in the processor's cache when it is written.
        cut = self._cuts.of(name)
        self.kept[name] = 0
        for piece, count in self._cuts.layers[name].pruned(cut):
            self.kept[name] += count
            yield piece

    def _checked_head(self) -> bytes:
        """The header of a file that carries our checksum, with the checksum of what is about to be written."""
        metadata = self._file.metadata
        claimed = metadata.pop(CHECKSUM)
        header = self._file.header | {METADATA: metadata}
        before, after = (hashlib.sha256(canonical_json(header)) for _ in range(2))
        for piece in self._file.pieces(len(self._file.head), self._file.size):
            before.update(piece)
        if before.hexdigest() != claimed:
            path = self._file.path
            raise CorruptError(f"{path}: changed since it was written: its contents do not match its own checksum")
        for piece in self._payload():
            after.update(piece)
        text = canonical_json(header | {METADATA: metadata | {CHECKSUM: after.hexdigest()}})
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text
