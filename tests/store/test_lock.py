from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparsify.errors import BusyError, InputOutputError, UsageError
from sparsify.store.lock import RunLock

HOLDER = """
import sys, time
from pathlib import Path
from sparsify.store.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(root: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()


def test_the_second_is_told_who_holds_it_and_gets_it_when_the_first_is_killed(tmp_path: Path):
    holder = start_holder(tmp_path)
    try:
        with (
            pytest.raises(
                BusyError, match=rf"held by process {holder.pid} on host {platform.node()} since 20\d\d-.*wait"
            ),
            RunLock(tmp_path),
        ):
            pass
    finally:
        end(holder)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_it_can_be_taken_again_after_release(tmp_path: Path):
    for _ in range(2):
        with RunLock(tmp_path):
            pass
    assert (tmp_path / ".lock").read_text() == ""


def test_it_is_released_when_the_block_raises(tmp_path: Path):
    with pytest.raises(RuntimeError), RunLock(tmp_path):
        raise RuntimeError
    with RunLock(tmp_path):
        pass


def test_one_process_cannot_hold_it_twice(tmp_path: Path):
    with RunLock(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()}"), RunLock(tmp_path):
        pass


def test_the_refused_one_leaves_the_holders_record(tmp_path: Path):
    with RunLock(tmp_path):
        before = (tmp_path / ".lock").read_bytes()
        with pytest.raises(BusyError), RunLock(tmp_path):
            pass
        assert (tmp_path / ".lock").read_bytes() == before


def test_an_unreadable_record_still_says_busy(tmp_path: Path):
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(BusyError, match="process unknown on host unknown"), RunLock(tmp_path):
            pass


def test_a_child_that_outlives_the_holder_is_told(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_text(json.dumps({"host": platform.node(), "pid": gone.pid, "since": "then"}))
        with pytest.raises(BusyError, match="has ended, but a child of it still runs"), RunLock(tmp_path):
            pass


def test_the_folder_is_made(tmp_path: Path):
    with RunLock(tmp_path / "runs" / "new"):
        assert (tmp_path / "runs" / "new" / ".lock").exists()


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="nothing was written there"), RunLock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_flock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = r"expected a file system with flock\(2\).*local disk with --run-dir"
    with pytest.raises(InputOutputError, match=told), RunLock(tmp_path):
        pass
    monkeypatch.undo()
    with RunLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputOutputError, match="could not be opened to lock it: Read-only"), RunLock(tmp_path):
        pass
