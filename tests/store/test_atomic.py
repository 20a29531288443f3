from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsify.errors import InputOutputError, UsageError
from sparsify.store import atomic
from sparsify.store.atomic import new_folder, sweep, write_bytes, write_chunks, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder on a disk of 64 KiB: a real small tmpfs where that may be mounted, else fsync that says it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return

    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 65536:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    yield folder


def test_write_bytes_makes_folders_and_replaces(tmp_path: Path):
    path = tmp_path / "a" / "b" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a", "a/b", "a/b/file"]


def test_write_text_is_utf8(tmp_path: Path):
    write_text(tmp_path / "t", "é\n")
    assert (tmp_path / "t").read_bytes() == "é\n".encode()


def test_write_json_is_sorted_and_ends_in_a_newline(tmp_path: Path):
    write_json(tmp_path / "j", {"b": 1, "a": [2]})
    text = (tmp_path / "j").read_text()
    assert json.loads(text) == {"a": [2], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")


def test_nan_is_refused_and_nothing_is_replaced(tmp_path: Path):
    write_json(tmp_path / "j", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "j", float("nan"))
    assert (tmp_path / "j").read_text() == "1\n"


def test_a_writer_that_fails_half_way_leaves_the_old_file(tmp_path: Path):
    def chunks():
        yield b"half"
        raise RuntimeError("no more")

    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more"):
        write_chunks(path, chunks())
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_full_disk_keeps_the_old_file_and_says_what_to_do(full_disk: Path):
    path = full_disk / "f"
    write_bytes(path, b"old")
    with pytest.raises(
        InputOutputError, match=r"f: could not be written: No space left on device; nothing was repl.*free"
    ):
        write_bytes(path, b"x" * 200_000)
    assert path.read_bytes() == b"old"
    assert names(full_disk) == ["f"]


def test_full_disk_keeps_earlier_folders_and_leaves_no_temporary(full_disk: Path):
    with new_folder(full_disk / "level_01") as folder:
        (folder / "f").write_bytes(b"earlier")
    full = pytest.raises(InputOutputError, match=r"level_02.*: could not be written: No space left")
    with full, new_folder(full_disk / "level_02") as folder:
        write_bytes(folder / "f", b"x" * 200_000)
    assert names(full_disk) == ["level_01", "level_01/f"]
    assert (full_disk / "level_01" / "f").read_bytes() == b"earlier"


def test_a_write_by_others_that_fills_the_disk_is_told_by_the_folder_too(tmp_path: Path):
    full = pytest.raises(InputOutputError, match=r"new: could not be written: No space left")
    with full, new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_other_operating_system_errors_pass_unchanged(tmp_path: Path):
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "new"):
        (tmp_path / "absent").read_bytes()
    assert names(tmp_path) == []


def test_no_permission_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputOutputError, match=r"f: could not be written: Permission denied"):
        write_bytes(tmp_path / "f", b"x")
    assert names(tmp_path) == []


def test_a_folder_inside_a_file_is_named_and_not_its_temporary(tmp_path: Path):
    (tmp_path / "file").touch()
    refused = pytest.raises(InputOutputError, match=r"file/folder: could not be written: Not a directory")
    with refused, new_folder(tmp_path / "file" / "folder"):
        pass


def test_new_folder_appears_only_at_the_end(tmp_path: Path):
    final = tmp_path / "deep" / "final"
    with new_folder(final) as folder:
        assert folder.parent == final.parent
        assert folder.name.startswith(".tmp-final-")
        (folder / "sub").mkdir()
        (folder / "sub" / "f").write_text("x")
        assert not final.exists()
    assert names(tmp_path) == ["deep", "deep/final", "deep/final/sub", "deep/final/sub/f"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_new_folder_is_removed_when_the_block_raises(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), new_folder(tmp_path / "final") as folder:
        (folder / "f").write_text("x")
        raise error
    assert names(tmp_path) == []


def test_an_existing_folder_is_not_overwritten_unless_asked(tmp_path: Path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(UsageError, match="expected no such folder yet"), new_folder(final):
        pass
    with new_folder(final, replace=True) as folder:
        (folder / "new").touch()
        assert names(final) == ["old"]
    assert names(tmp_path) == ["final", "final/new"]


def test_a_failed_replacement_keeps_the_old_folder(tmp_path: Path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(RuntimeError), new_folder(final, replace=True):
        raise RuntimeError
    assert names(tmp_path) == ["final", "final/old"]


def test_everything_is_synced_before_the_rename_and_the_parent_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    final = tmp_path / "final"
    events: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append((path.name if not path.name.startswith(".tmp") else "TMP", final.exists()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell which file was synced")
    monkeypatch.setattr(os, "fsync", fsync)
    with new_folder(final) as folder:
        (folder / "f").write_text("x")
    assert events == [("f", False), ("TMP", False), (tmp_path.name, True)]


def test_a_large_file_is_settled_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(atomic, "_SETTLED_AT_ONCE", 100)
    sizes: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    chunks = [bytes([i]) * 60 for i in range(50)]
    write_chunks(tmp_path / "x", chunks)
    assert (tmp_path / "x").read_bytes() == b"".join(chunks)
    assert sizes[0] < 3000 and sizes[-1] == 3000


def test_a_disk_that_fails_while_it_is_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(atomic, "_SETTLED_AT_ONCE", 1)
    calls: list[int] = []

    def fails_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails_once)
    with pytest.raises(InputOutputError, match="x: could not be written: Input/output error; nothing was replaced"):
        write_chunks(tmp_path / "x", [b"a", b"b"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    with new_folder(tmp_path / "final") as folder:
        write_bytes(folder / "f", b"x")
    assert names(tmp_path) == ["final", "final/f"]


def test_sweep_removes_orphans_and_nothing_else(tmp_path: Path):
    for kept in ("a/f.tmp-x", "a/.tmp", "a/tmp-1", ".lock", ".hidden/f", "a/.tmpfile"):
        (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / kept).touch()
    outside = tmp_path / "a" / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    before = names(tmp_path)
    (tmp_path / ".tmp-file-1").touch()
    (tmp_path / "a" / ".tmp-folder-2" / "deep").mkdir(parents=True)
    (tmp_path / "a" / ".tmp-folder-2" / "deep" / "f").touch()
    (tmp_path / "a" / ".tmp-link-3").symlink_to(outside)
    removed = sweep(tmp_path)
    assert [path.name for path in removed] == [".tmp-file-1", ".tmp-folder-2", ".tmp-link-3"]
    assert names(tmp_path) == before


def test_sweep_of_an_absent_folder_is_nothing(tmp_path: Path):
    assert sweep(tmp_path / "absent") == []


WRITER = """
import sys
from pathlib import Path
from sparsify.store.atomic import new_folder, write_bytes
root = Path(sys.argv[1])
print("ready", flush=True)
for turn in range(10**6):
    with new_folder(root / "stage", replace=True) as folder:
        for name in "abcd":
            write_bytes(folder / name, str(turn).encode() * 2000)
    write_bytes(root / "file", str(turn).encode() * 2000)
"""


def test_kill_9_leaves_all_or_nothing_and_the_orphans_are_swept(tmp_path: Path):
    delays = random.Random(0)
    orphans = 0
    for _ in range(15):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.005, 0.08))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        orphans += len(sweep(tmp_path))
        assert set(names(tmp_path)) <= {"file", "stage", *(f"stage/{name}" for name in "abcd")}
        if (tmp_path / "file").exists():
            assert whole((tmp_path / "file").read_bytes())
        if (tmp_path / "stage").exists():
            contents = {path.read_bytes() for path in (tmp_path / "stage").iterdir()}
            assert len(list((tmp_path / "stage").iterdir())) == 4
            assert len(contents) == 1
            assert whole(contents.pop())
    assert orphans > 0, "no kill fell inside a write: the delays test nothing"


def whole(data: bytes) -> bool:
    turn = data[: len(data) // 2000]
    return len(data) > 0 and turn * 2000 == data
