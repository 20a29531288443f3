from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from sparsify.errors import InputOutputError
from sparsify.store.atomic import write_chunks
from sparsify.store.checkpoint import drop_checkpoint, load_checkpoint, save_checkpoint

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "rng": torch.arange(4, dtype=torch.uint8)}
STATE = {"step": 12, "curve": [[1, 0.5]], "best": None}


def test_what_was_saved_last_comes_back(tmp_path: Path):
    save_checkpoint(tmp_path, {"weight": torch.zeros(1)}, {"step": 1}, "k")
    save_checkpoint(tmp_path, TENSORS, STATE, "k")
    loaded = load_checkpoint(tmp_path, "k")
    assert loaded is not None
    tensors, state = loaded
    assert state == STATE
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert len(list(tmp_path.iterdir())) == 1


def test_absent_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "absent", "k") is None


def test_another_stages_is_none_and_stays(tmp_path: Path):
    save_checkpoint(tmp_path, TENSORS, STATE, "k")
    assert load_checkpoint(tmp_path, "other") is None
    assert load_checkpoint(tmp_path, "k") is not None


@pytest.mark.parametrize("place", [0, 9, 40, -1])
def test_a_damaged_one_is_discarded_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int):
    save_checkpoint(tmp_path, TENSORS, STATE, "k")
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path, "k") is None
    assert "checkpoint.safetensors" in caplog.text
    assert "training starts again" in caplog.text
    assert not path.exists()


def test_a_state_that_json_lacks_is_refused_and_the_last_one_stays(tmp_path: Path):
    save_checkpoint(tmp_path, TENSORS, STATE, "k")
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, TENSORS, {"loss": float("nan")}, "k")
    loaded = load_checkpoint(tmp_path, "k")
    assert loaded is not None
    assert loaded[1] == STATE


def test_a_failed_save_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_checkpoint(tmp_path, TENSORS, STATE, "k")

    def fill(path: Path, chunks: object) -> None:
        def broken():
            yield b"half"
            raise OSError(28, "No space left on device")

        write_chunks(path, broken())

    monkeypatch.setattr("sparsify.store.weights.write_chunks", fill)
    with pytest.raises(InputOutputError, match="No space left"):
        save_checkpoint(tmp_path, TENSORS, {"step": 13}, "k")
    loaded = load_checkpoint(tmp_path, "k")
    assert loaded is not None
    assert loaded[1] == STATE


def test_dropping_removes_emptied_folders_up_to_partial(tmp_path: Path):
    folder = tmp_path / ".partial" / "replicate_0" / "dense"
    other = tmp_path / ".partial" / "replicate_1"
    save_checkpoint(folder, TENSORS, STATE, "k")
    save_checkpoint(other, TENSORS, STATE, "k")
    drop_checkpoint(folder)
    assert not folder.parent.exists()
    assert load_checkpoint(other, "k") is not None
    drop_checkpoint(other)
    assert not (tmp_path / ".partial").exists()
    assert tmp_path.exists()


def test_dropping_what_is_absent_is_fine(tmp_path: Path):
    drop_checkpoint(tmp_path / ".partial" / "dense")


def test_dropping_never_removes_what_is_not_a_checkpoint(tmp_path: Path):
    save_checkpoint(tmp_path / "f", TENSORS, STATE, "k")
    (tmp_path / "f" / "notes").touch()
    drop_checkpoint(tmp_path / "f")
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["notes"]
