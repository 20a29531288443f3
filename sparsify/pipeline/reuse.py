"""`--reuse RUN`: complete stages of other runs, taken by hard link where their keys are equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsify.store.atomic import link_file, new_folder
from sparsify.store.run import stages_of
from sparsify.store.stage import StageRecord, check_stage, read_stage


class Shelf:
    """The complete stages of `runs`, by key. A run whose recipe is damaged lends its stages all the same.

    Raises:
        InputOutputError: One of `runs` is no run folder.
        CorruptError: A stage's record was changed.
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        self._folders: dict[str, Path] = {}
        for root in runs:
            for path, record in stages_of(root).items():
                self._folders.setdefault(record.identity(), root / path)

    def __contains__(self, key: str) -> bool:
        return key in self._folders

    def digest(self, key: str) -> str | None:
        """Digest of the stage of `key`, None when there is none; nothing is linked and its files are not checked."""
        record = read_stage(self._folders[key]) if key in self._folders else None
        return None if record is None else record.digest

    def take(self, key: str, folder: Path) -> StageRecord | None:
        """Link the stage of `key` to `folder`, its digests checked first; None when there is none."""
        source = self._folders.get(key)
        record = read_stage(source) if source is not None else None
        if source is None or record is None:
            return None
        check_stage(source, record)
        with new_folder(folder) as temporary:
            for file in source.rglob("*"):
                target = temporary / file.relative_to(source)
                if file.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link_file(file, target)
        return record
