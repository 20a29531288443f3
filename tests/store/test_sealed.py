from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import CorruptError
from sparsify.store.sealed import SEAL, read_sealed, write_sealed

RECORD = {"b": [1, 1e-05, "é/\\"], "a": {"x": None, "y": True, "blank": "a b"}}


def test_what_was_written_reads_back(tmp_path: Path):
    written = write_sealed(tmp_path / "r", RECORD)
    assert read_sealed(tmp_path / "r", mend="remove it") == written
    assert {name: value for name, value in written.items() if name != SEAL} == RECORD


def test_absent_is_none(tmp_path: Path):
    assert read_sealed(tmp_path / "r", mend="remove it") is None
    assert read_sealed(tmp_path / "no" / "r", mend="remove it") is None


def test_an_old_seal_is_replaced(tmp_path: Path):
    first = write_sealed(tmp_path / "r", RECORD)
    assert write_sealed(tmp_path / "r", first) == first


def test_every_single_byte_counts(tmp_path: Path):
    """All bytes, each with several changes: an `e` made `E` and a blank made a tab leave the parsed values equal."""
    path = tmp_path / "r"
    write_sealed(path, RECORD)
    good = path.read_bytes()
    for place in range(len(good)):
        for flip in (0x01, 0x20, 0x29, 0xFF):
            path.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            with pytest.raises(CorruptError, match="was changed; remove it"):
                read_sealed(path, mend="remove it")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"record_sha256": 3}', "[" * 100_000, "\xff"])
def test_other_contents_are_damage(tmp_path: Path, text: str):
    (tmp_path / "r").write_text(text)
    with pytest.raises(CorruptError, match="was changed; remove it"):
        read_sealed(tmp_path / "r", mend="remove it")


def test_a_duplicate_field_is_damage(tmp_path: Path):
    path = tmp_path / "r"
    write_sealed(path, {"a": 1})
    path.write_text(path.read_text().replace('"a": 1', '"a": 2,\n "a": 1'))
    assert json.loads(path.read_text())["a"] == 1
    with pytest.raises(CorruptError, match="was changed; remove it"):
        read_sealed(path, mend="remove it")


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "sealed"
    path.write_bytes(data)
    with pytest.raises(CorruptError):
        read_sealed(path, mend="remove it")
