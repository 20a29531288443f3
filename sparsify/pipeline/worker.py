"""A worker process: one stage at a time, JSON lines in and out. `python -m sparsify.pipeline.worker`.

Torch is imported only once the signals are in hand: a stop in the first second must find a worker that knows it.

In:  one line a stage: {"root", "path", "kind", "spec", "parents": {role: {"path", "digest"}}, "key", "seeds",
     "versions", "replace", "checkpoint_seconds"}.
Out: {"event": "progress" | "done" | "failed" | "preempted", "path", ...}, one line each.

SIGTERM asks for a checkpoint at the next step boundary. When the parent dies the worker dies with it: its standard
input closes, and on Linux the kernel kills it at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from sparsify.errors import Preempted, SparsifyError
from sparsify.store.layout import PARTIAL
from sparsify.store.stage import write_stage

_PROGRESS_SECONDS = 0.2


class _Channel:
    """Events to the parent, and whether a signal has asked to stop."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self.stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def send(self, event: str, path: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, "path": path, **values}) + "\n")
        self._out.flush()


class StageKeeper:
    """The `Keeper` of one stage: checkpoints under `.partial/`, progress to the parent."""

    def __init__(self, channel: _Channel, job: Mapping[str, Any]) -> None:
        self._channel, self._path, self._key = channel, job["path"], job["key"]
        self._folder = Path(job["root"]) / PARTIAL / job["path"]
        self._every = float(job["checkpoint_seconds"])
        self._saved = self._told = time.monotonic()

    def load(self) -> Any:
        """What was saved last for this stage's key, or None."""
        from sparsify.store.checkpoint import load_checkpoint

        return load_checkpoint(self._folder, self._key)

    def save(self, tensors: Any, state: Any) -> None:
        """Replace the checkpoint."""
        from sparsify.store.checkpoint import save_checkpoint

        save_checkpoint(self._folder, tensors, state, self._key)
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether `compute.checkpoint_seconds` have passed since the last save."""
        return time.monotonic() - self._saved >= self._every

    def stopping(self) -> bool:
        """Whether SIGTERM came."""
        return self._channel.stopping

    def progress(self, step: int, total: int, note: str) -> None:
        """Tell the parent, a few times a second at most."""
        now = time.monotonic()
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._channel.send("progress", self._path, step=step, total=total, note=note)

    def drop(self) -> None:
        """The stage is complete: its checkpoint is not needed any more."""
        from sparsify.store.checkpoint import drop_checkpoint

        drop_checkpoint(self._folder)


def perform_stage(job: Mapping[str, Any], keeper: StageKeeper) -> None:
    """Run one stage; its folder appears whole or not at all."""
    from sparsify.pipeline.work import work

    root = Path(job["root"])
    parents = {role: root / parent["path"] for role, parent in job["parents"].items()}
    with write_stage(
        root / job["path"],
        kind=job["kind"],
        key=job["key"],
        spec=job["spec"],
        parents=job["parents"],
        seeds=job["seeds"],
        versions=job["versions"],
        replace=job["replace"],
    ) as out:
        work(job["kind"], job["spec"], parents, out, keeper)
    keeper.drop()


def _attempt(channel: _Channel, job: Mapping[str, Any]) -> None:
    path = job["path"]
    try:
        perform_stage(job, StageKeeper(channel, job))
        channel.send("done", path)
    except Preempted as stop:
        channel.send("preempted", path, message=str(stop))
    except SparsifyError as error:
        channel.send("failed", path, exit_code=error.exit_code, message=str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        channel.send("failed", path, exit_code=9, message=f"{error.strerror or error}{where}")
    except Exception as error:
        traceback.print_exc()
        channel.send("failed", path, exit_code=1, message=f"{type(error).__name__}: {error}")


def _die_with_parent(parent: int) -> None:
    """On Linux ask the kernel to kill this process when its parent dies (prctl 1 is PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _read_jobs(stream: IO[str], jobs: list[dict[str, Any]], ready: threading.Semaphore) -> None:
    """Queue the jobs as they come; the parent's end closing, also by its death, ends the process."""
    for line in stream:
        jobs.append(json.loads(line))
        ready.release()
    os._exit(0)


def main() -> None:
    """Serve stages until standard input closes."""
    _die_with_parent(int(sys.argv[1]))
    # What libraries print must not mix with the events: events keep the real standard output, prints go to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    channel = _Channel(out)
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_flush_denormal(True)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
    jobs: list[dict[str, Any]] = []
    ready = threading.Semaphore(0)
    threading.Thread(target=_read_jobs, args=(sys.stdin, jobs, ready), daemon=True).start()
    while True:
        ready.acquire()
        _attempt(channel, jobs.pop(0))
        if channel.stopping:
            return


if __name__ == "__main__":
    main()
