"""Downloads from a server on this machine: whole, resumed, without Range, wrong, broken off, and two at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sparsify.data.download import download
from sparsify.errors import CorruptError, InputOutputError

CONTENT = np.random.default_rng(0).bytes(300_000)


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    understands_range: bool = True
    breaks_off_after: int | None = None
    lies_about_start: int = 0
    says_length: bool = True
    status: int | None = None
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.ranges.append(asked)
            if behaviour.status:
                self.send_error(behaviour.status)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.understands_range else 0
            if start >= len(behaviour.content):
                self.send_error(416)
                return
            start -= behaviour.lies_about_start if asked else 0
            self.send_response(206 if asked and behaviour.understands_range else 200)
            if asked and behaviour.understands_range:
                end = len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            body = behaviour.content[start:]
            if behaviour.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: behaviour.breaks_off_after])

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        behaviour.url = f"http://127.0.0.1:{running.server_address[1]}/file"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield behaviour
        running.shutdown()
        thread.join()


def check(path: Path) -> None:
    if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(CONTENT).digest():
        raise CorruptError(f"{path}: wrong digest")


def fetch(server: Server, folder: Path, **options) -> Path:
    path = folder / "cache" / "file.gz"
    download(server.url, path, check=check, limit=1_000_000, **options)
    return path


def leftovers(folder: Path) -> set[str]:
    return {file.name for file in (folder / "cache").iterdir()} - {"file.gz.lock"}


def test_a_whole_file_comes_once_and_is_told_of(server, tmp_path):
    told = []
    path = fetch(server, tmp_path, progress=lambda *now: told.append(now))
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("file.gz", len(CONTENT), len(CONTENT)) and len(told) > 1
    assert leftovers(tmp_path) == {"file.gz"}
    fetch(server, tmp_path)
    assert server.ranges == [None]


def test_what_broke_off_is_kept_and_resumed(server, tmp_path):
    server.breaks_off_after = 100_000
    for received in (100_000, 200_000):
        with pytest.raises(InputOutputError, match=f"closed after {received} of 300000 bytes; run again to resume"):
            fetch(server, tmp_path)
        assert leftovers(tmp_path) == {"file.gz.part"}
    server.breaks_off_after = None
    told = []
    assert fetch(server, tmp_path, progress=lambda *now: told.append(now)).read_bytes() == CONTENT
    assert told[0][1] > 200_000
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert leftovers(tmp_path) == {"file.gz"}


@pytest.mark.parametrize(
    ("fault", "value", "ranges"),
    [("understands_range", False, ["bytes=100000-"]), ("lies_about_start", 5_000, ["bytes=100000-", None])],
)
def test_a_server_that_does_not_give_the_range_asked_for(server, tmp_path, fault, value, ranges):
    server.breaks_off_after = 100_000
    with pytest.raises(InputOutputError):
        fetch(server, tmp_path)
    server.breaks_off_after = None
    setattr(server, fault, value)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, *ranges]


def test_a_part_that_was_complete_already_is_used(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file.gz.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("length", [1_000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_another_file_is_thrown_away_and_fetched_again(server, tmp_path, length):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file.gz.part").write_bytes(bytes(length))
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={length}-", None]
    assert leftovers(tmp_path) == {"file.gz"}


def test_a_wrong_file_is_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"\0"
    with pytest.raises(CorruptError, match="wrong digest"):
        fetch(server, tmp_path)
    assert leftovers(tmp_path) == set()
    assert server.ranges == [None]


def test_more_than_the_limit_is_refused_before_it_fills_the_disk(server, tmp_path):
    server.content, server.says_length = bytes(1_100_000), False
    with pytest.raises(CorruptError, match="expected at most 1000000 bytes, got more"):
        fetch(server, tmp_path)
    assert leftovers(tmp_path) == set()


def test_a_server_that_refuses_is_an_input_error(server, tmp_path):
    server.status = 404
    with pytest.raises(InputOutputError, match="the server answered 404 Not Found"):
        fetch(server, tmp_path)


def test_no_server_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(InputOutputError, match=r"http://127.0.0.1:9/file: .*refused"):
        fetch(Server(url="http://127.0.0.1:9/file"), tmp_path)


def test_a_folder_that_cannot_be_made_is_an_input_error(server, tmp_path):
    (tmp_path / "cache").write_text("a file in the folder's place")
    with pytest.raises(InputOutputError, match="cache: expected a folder to download into"):
        fetch(server, tmp_path)
    assert server.ranges == []


def test_two_who_want_the_same_file_fetch_it_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server, tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.ranges == [None]
