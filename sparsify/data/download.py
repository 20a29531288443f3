"""Fetch one public file: resumed where it broke off, checked before it is given its name."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from sparsify.errors import CorruptError, InputOutputError

BLOCK = 1 << 16
TIMEOUT_S = 30.0

# Told the file's name, the bytes that are here, and the bytes there will be if the server says so.
Progress = Callable[[str, int, int | None], None]


def download(
    url: str, path: Path, *, check: Callable[[Path], object], limit: int, progress: Progress | None = None
) -> None:
    """Put what lies at `url` at `path`, unless it is there already.

    Bytes gather in `path.part`, which a failure leaves behind and the next call continues (HTTP Range). Only a file
    that `check` accepts is renamed to `path`. Processes that want the same file wait for each other.

    Args:
        url: Where the file lies.
        path: Where it is to lie; the folder is made.
        check: Raises `CorruptError` on a file that is not the one wanted.
        limit: Bytes above which the answer cannot be the file.
        progress: Told how far it is.

    Raises:
        InputOutputError: The network, the server or the disk failed; what came so far is kept.
        CorruptError: What came, whole, is not the file; nothing is kept.
    """
    with _alone(path):
        if path.exists():
            return
        part = path.with_name(path.name + ".part")
        resumed = part.exists()
        _transfer(url, part, limit, progress)
        try:
            check(part)
        except CorruptError:
            part.unlink()
            if not resumed:
                raise
            _from_scratch(url, part, check, limit, progress)  # what was resumed may have been another file's beginning
        _finish(part, path)


def _from_scratch(url: str, part: Path, check: Callable[[Path], object], limit: int, progress: Progress | None) -> None:
    _transfer(url, part, limit, progress)
    try:
        check(part)
    except CorruptError:
        part.unlink()
        raise


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Hold the download of `path`; a second process waits here."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise InputOutputError(f"{path.parent}: expected a folder to download into: {error.strerror}") from error


def _transfer(url: str, part: Path, limit: int, progress: Progress | None) -> None:
    """Add to `part` what is missing of it, or all of it where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            _receive(response, url, part, _resumes_at(response, have), limit, progress)
    except HTTPError as error:
        error.close()
        if not (have and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise InputOutputError(f"{url}: the server answered {error.code} {error.reason}") from None
        # 416 says that nothing follows what is here: `check` decides whether that is the file.
    except (URLError, HTTPException, OSError) as error:
        raise InputOutputError(f"{url}: {getattr(error, 'reason', None) or error}") from error


def _resumes_at(response: HTTPResponse, have: int) -> int:
    """The position of the answer's first byte: `have` if the server resumes, 0 if it starts again."""
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    resumes = response.status == HTTPStatus.PARTIAL_CONTENT and span is not None and int(span[1]) == have
    return have if resumes else 0


def _receive(response: HTTPResponse, url: str, part: Path, start: int, limit: int, progress: Progress | None) -> None:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    have = start
    with part.open("ab" if start else "wb") as file:
        while block := response.read(BLOCK):
            have += len(block)
            if have > limit:
                break
            file.write(block)
            if progress:
                progress(part.stem, have, total)
    if have > limit:
        part.unlink()
        raise CorruptError(f"{url}: expected at most {limit} bytes, got more: this is not the file")
    if total is not None and have < total:
        raise InputOutputError(f"{url}: the connection closed after {have} of {total} bytes; run again to resume there")


def _finish(part: Path, path: Path) -> None:
    """Give the checked file its name, durably."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
