"""One writer a run folder: an advisory lock that the operating system drops when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, final

from sparsify.errors import BusyError, InputOutputError
from sparsify.store.layout import LOCK, require_run_or_empty

_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


@final
class RunLock:
    """Hold `root/.lock` with flock(2) while in the `with` block; `root` is made if it is absent.

    The file holds who has it as JSON (host, pid, since) and stays behind, since removing it would let two processes
    lock two files of one name. A child made by fork shares the lock until it ends too; spawned ones do not.

    Raises:
        BusyError: Another process holds it; says which, where and since when.
        UsageError: `root` holds something that is no run.
        InputOutputError: No permission, or a file system without flock.
    """

    def __init__(self, root: Path) -> None:
        self.path = Path(root) / LOCK
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        require_run_or_empty(self.path.parent)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputOutputError(f"{self.path}: could not be opened to lock it: {error.strerror or error}") from error
        try:
            self._acquire(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _acquire(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BusyError(_busy(self.path, _holder(descriptor))) from None
            if error.errno in _UNSUPPORTED:
                raise InputOutputError(
                    f"{self.path}: expected a file system with flock(2), got: {error.strerror}; "
                    "put the run folder on a local disk with --run-dir"
                ) from error
            raise InputOutputError(f"{self.path}: could not be locked: {error.strerror or error}") from error
        holder = {"host": platform.node(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise InputOutputError(f"{self.path}: could not be written: {error.strerror or error}") from error


def _holder(descriptor: int) -> dict[str, Any]:
    """Who holds the lock; the holder writes it a moment after locking, so an empty file is read again."""
    for _ in range(10):
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
        except ValueError:
            time.sleep(0.02)
            continue
        if isinstance(holder, dict):
            return holder
    return {}


def _busy(path: Path, holder: dict[str, Any]) -> str:
    host, pid, since = (holder.get(name, "unknown") for name in ("host", "pid", "since"))
    message = f"{path.parent}: held by process {pid} on host {host} since {since}; "
    if host == platform.node() and isinstance(pid, int) and not _alive(pid):
        message += "that process has ended, but a child of it still runs: "
    return message + "wait for it, end it, or choose another --run-dir"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
