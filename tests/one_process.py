"""The command in this process, its stages too: for tests of what a run decides and writes, not of its processes.

A process of its own takes seconds to import torch and its exporter, and a run has two or three of them.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any
from unittest import mock

import torch

from sparsify.cli.main import main
from sparsify.pipeline import scheduler, worker


def sparsify_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What `sparsify ARGUMENTS` gives, without a process; an exception that it would not handle is raised here."""
    line = ["sparsify", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(scheduler, "_Pool", _Here))
        stack.enter_context(mock.patch.object(sys, "argv", line))
        stack.enter_context(mock.patch.dict(os.environ, {"COLUMNS": "160"}))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(_warnings_as_in_a_process())
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(line, code or 0, out.getvalue(), err.getvalue())


@contextmanager
def _warnings_as_in_a_process() -> Generator[None]:
    """Told on standard error, and no errors."""

    def show(message: Any, category: Any, file: str, line: int, *_: Any) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, file, line))

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)
        warnings.showwarning = show
        yield


class _Here:
    """In place of the scheduler's pool: stages run one at a time, when it is asked what has happened."""

    def __init__(self, size: int, threads: int) -> None:
        self._jobs: list[dict[str, Any]] = []
        self.stopping = False

    def close(self) -> None:
        pass

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    @property
    def idle(self) -> bool:
        return not self._jobs

    def submit(self, path: str, job: Mapping[str, Any]) -> None:
        self._jobs.append(json.loads(json.dumps(job)))

    def stop(self) -> None:
        self.stopping = True

    def events(self, timeout: float) -> list[dict[str, Any]]:
        heard = _Heard()
        if self._jobs:
            torch.set_flush_denormal(True)
            try:
                worker._attempt(heard, self._jobs[0])
            finally:
                self._jobs.clear()
                torch.set_flush_denormal(False)
        return heard.events


class _Heard:
    """In place of a worker's channel."""

    stopping = False

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def send(self, event: str, path: str, **values: Any) -> None:
        self.events.append({"event": event, "path": path, **values})
