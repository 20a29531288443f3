"""Runs stages over worker processes: each as soon as its parents are complete, none that is complete already."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsify.counted import counted
from sparsify.errors import (
    BusyError,
    CorruptError,
    DivergedError,
    InputOutputError,
    Preempted,
    SparsifyError,
    UnavailableError,
    UsageError,
)
from sparsify.machine import usable_cores
from sparsify.pipeline.observer import Observer
from sparsify.pipeline.reuse import Shelf
from sparsify.pipeline.stage import Stage
from sparsify.store.resolved import differences
from sparsify.store.stage import StageRecord, check_stage, read_stage, stage_key

_ERRORS: dict[int, type[SparsifyError]] = {
    kind.exit_code: kind
    for kind in (UsageError, UnavailableError, CorruptError, BusyError, InputOutputError, DivergedError)
}


class Scheduler:
    """Brings stages of one run folder to completion, with at most `workers` processes.

    A context manager: the processes it starts serve every call of `run`, and end with it. Torch and the data are then
    loaded once a process, not once a phase.

    Args:
        root: the run folder, whose lock the caller holds.
        workers: largest number of stages run at once.
        threads: of each worker.
        checkpoint_seconds: longest time of training that a kill can lose.
        observer: told what happens.
        shelf: complete stages of other runs, to take instead of running.
        on_change: called once, before the first stage is added to the folder.
        stop: set by a signal (`stopped_by_signals`): workers then checkpoint and Preempted is raised.
    """

    def __init__(
        self,
        root: Path,
        *,
        workers: int,
        threads: int = 1,
        checkpoint_seconds: float,
        observer: Observer,
        shelf: Shelf | None = None,
        on_change: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._root, self._checkpoint = root, checkpoint_seconds
        self._pool = _Pool(workers, threads)
        self._observer, self._shelf = observer, shelf or Shelf(())
        self._digests: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._stop = stop or threading.Event()
        self._on_change = on_change
        self.changed = False

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def run(self, stages: Sequence[Stage]) -> None:
        """Complete every stage of `stages`; parents are among them or were completed by an earlier call.

        Raises:
            Preempted: `stop` was set; trainings in progress were checkpointed.
            SparsifyError: a stage failed; the others were checkpointed. What is complete stays.
        """
        self._observer.planned([stage.path for stage in stages])
        waiting = self._take_complete(list(stages))
        if waiting:
            self._drive(self._pool, waiting)

    def _take_complete(self, stages: list[Stage]) -> list[Stage]:
        """Mark what is complete, in order, so that a fully cached run starts no process; returns the rest."""
        waiting: list[Stage] = []
        for stage in stages:
            if not self._ready(stage) or not self._complete(stage):
                waiting.append(stage)
        return waiting

    def _ready(self, stage: Stage) -> bool:
        return all(parent in self._digests for parent in stage.parents.values())

    def key(self, stage: Stage) -> str | None:
        """The stage's key, or None while a parent is not complete."""
        if not self._ready(stage):
            return None
        if stage.path not in self._keys:
            inputs = {role: self._digests[parent] for role, parent in stage.parents.items()}
            self._keys[stage.path] = stage_key(stage.kind, stage.spec_json(), inputs, stage.versions())
        return self._keys[stage.path]

    def complete(self, stage: Stage) -> bool:
        """Whether the stage's output stands, whole and with its key; remembers it for the stages that read it."""
        return self._ready(stage) and self._complete(stage)

    def assume(self, stage: Stage, digest: str) -> None:
        """Take the stage for complete, with this digest: for a plan that runs nothing."""
        self._digests[stage.path] = digest

    def _complete(self, stage: Stage) -> bool:
        folder, key = self._root / stage.path, self.key(stage)
        assert key is not None
        record = read_stage(folder)
        if record is None:
            record = self._take(key, folder)
        if record is None:
            return False
        if record.identity() != key:
            return self._stale(stage, record)
        check_stage(folder, record)
        self._digests[stage.path] = record.digest
        self._observer.finished(stage.path, cached=True, seconds=0.0)
        return True

    def _take(self, key: str, folder: Path) -> StageRecord | None:
        """The stage from the shelf, if it is there."""
        if key not in self._shelf:
            return None
        self._change()
        return self._shelf.take(key, folder)

    def _change(self) -> None:
        if not self.changed:
            self._on_change()
            self.changed = True

    def _stale(self, stage: Stage, record: StageRecord) -> bool:
        """A complete output of another key: made anew where that loses no training, refused where it would."""
        if stage.derived:
            return False
        changed = [*differences(record.versions, stage.versions()), *differences(record.spec, stage.spec_json())]
        why = "; ".join(changed) or "what it was made from has changed"
        raise UsageError(
            f"{self._root / stage.path}: expected what this recipe and these versions make, got a training of another "
            f"key ({why}); it is not overwritten: choose another --run-dir, or remove that folder"
        )

    def _drive(self, pool: _Pool, stages: list[Stage]) -> None:
        failure: SparsifyError | None = None
        waiting = stages
        while (waiting and failure is None and not self._stop.is_set()) or pool.busy:
            if failure is None and not self._stop.is_set():
                waiting = self._dispatch(pool, waiting)
            elif not pool.stopping:
                pool.stop()
            for event in pool.events(timeout=0.2):
                failure = self._handle(event) or failure
        if failure is not None:
            raise failure
        if unfinished := [stage.path for stage in stages if stage.path not in self._digests]:
            # What was under way is among them; a search does not know yet what it would have asked for next.
            named = ", ".join([*unfinished[:3], *["..."][: len(unfinished) > 3]])
            raise Preempted(
                f"stopped by a signal with at least {counted(len(unfinished), 'stage')} to go ({named}); "
                "trainings in progress were checkpointed, the same command resumes"
            )

    def _dispatch(self, pool: _Pool, waiting: list[Stage]) -> list[Stage]:
        rest: list[Stage] = []
        for stage in waiting:
            if not pool.idle or not self._ready(stage):
                rest.append(stage)
            elif not self._complete(stage):
                pool.submit(stage.path, self._job(stage))
        if rest and not pool.busy and len(rest) == len(waiting):
            raise SparsifyError(f"no stage can start: {rest[0].path} waits for {dict(rest[0].parents)}")
        return rest

    def _job(self, stage: Stage) -> dict[str, Any]:
        self._change()
        self._observer.started(stage.path)
        return {
            "root": str(self._root),
            "path": stage.path,
            "kind": stage.kind,
            "spec": stage.spec_json(),
            "parents": {role: {"path": path, "digest": self._digests[path]} for role, path in stage.parents.items()},
            "key": self.key(stage),
            "seeds": dict(stage.seeds),
            "versions": stage.versions(),
            "replace": stage.derived,
            "checkpoint_seconds": self._checkpoint,
        }

    def _handle(self, event: Mapping[str, Any]) -> SparsifyError | None:
        path = event["path"]
        if event["event"] == "progress":
            self._observer.progress(path, event["step"], event["total"], event["note"])
        elif event["event"] == "done":
            record = read_stage(self._root / path)
            assert record is not None
            self._digests[path] = record.digest
            self._observer.finished(path, cached=False, seconds=record.elapsed_s)
        elif event["event"] == "failed":
            return _ERRORS.get(event["exit_code"], SparsifyError)(f"{path}: {event['message']}")
        return None


class _Pool:
    """Worker processes, started as they are needed."""

    def __init__(self, size: int, threads: int) -> None:
        self._size, self._threads = size, threads
        self._processes: list[subprocess.Popen[bytes]] = []
        self._running: dict[int, str] = {}
        self._unfinished: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self.stopping = False

    def close(self) -> None:
        """End the workers: an idle one at once, a busy one by force."""
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            if process.pid in self._running:
                process.kill()
            process.wait()
            process.stdout.close()
        self._selector.close()

    @property
    def busy(self) -> bool:
        return bool(self._running)

    @property
    def idle(self) -> bool:
        return len(self._running) < self._size

    def submit(self, path: str, job: Mapping[str, Any]) -> None:
        free = [process for process in self._processes if process.pid not in self._running]
        process = free[0] if free else self._start()
        assert process.stdin is not None
        self._running[process.pid] = path
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()

    def stop(self) -> None:
        """Ask every worker to checkpoint and leave."""
        self.stopping = True
        for process in self._processes:
            process.send_signal(signal.SIGTERM)

    def events(self, timeout: float) -> Generator[dict[str, Any]]:
        for selected, _ in self._selector.select(timeout):
            process: subprocess.Popen[bytes] = selected.data
            # Read past Python's buffer: a line left in it would not wake `select`.
            data = os.read(selected.fd, 1 << 16)
            if not data:
                yield from self._gone(process)
                continue
            *lines, self._unfinished[process.pid] = (self._unfinished.get(process.pid, b"") + data).split(b"\n")
            for event in map(json.loads, lines):
                if event["event"] != "progress":
                    self._running.pop(process.pid, None)
                yield event

    def _gone(self, process: subprocess.Popen[bytes]) -> Generator[dict[str, Any]]:
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        self._processes.remove(process)
        code = process.wait()
        process.stdout.close()
        path = self._running.pop(process.pid, None)
        if path is not None and self.stopping:
            yield {"event": "preempted", "path": path}
        elif path is not None:
            cause = "killed, perhaps for want of memory" if code == -signal.SIGKILL else f"exit status {code}"
            yield {
                "event": "failed",
                "path": path,
                "exit_code": 1,
                "message": f"its worker process ended ({cause}); the same command resumes",
            }

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            f"{library}_NUM_THREADS": str(self._threads) for library in ("OMP", "MKL", "OPENBLAS")
        }
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        process = subprocess.Popen(
            [sys.executable, "-m", "sparsify.pipeline.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which asks its workers to checkpoint
        )
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, process)
        self._processes.append(process)
        return process


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Generator[None]:
    """SIGTERM and SIGINT set `stop` while inside; elsewhere than in the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in handlers:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def default_workers(device: str) -> int:
    """One a core that this process may use; one on a GPU, which several trainings would only share."""
    return 1 if device == "cuda" else usable_cores()


def default_threads() -> int:
    """Of a worker that has the machine to itself: what OMP_NUM_THREADS says, or one a core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else usable_cores()
