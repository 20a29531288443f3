from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store import tensor_file
from sparsify.store.tensor_file import open_tensor_file


def written(path: Path, header: object, payload: int = 0, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(payload))
    return path


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_what_the_reference_library_wrote_is_read(tmp_path: Path):
    tensors = {
        "b": torch.randn(3, 4),
        "a": torch.randn(2, 2, 2).bfloat16(),
        "none": torch.zeros(0, 5),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "flag": torch.tensor([True, False]),
    }
    save_torch(tensors, tmp_path / "x", metadata={"format": "pt"})
    with open_tensor_file(tmp_path / "x") as file, safe_open(tmp_path / "x", "pt") as reference:
        assert file.metadata == reference.metadata() == {"format": "pt"}
        assert set(file.tensors) == set(tensors)
        for name, found in file.tensors.items():
            piece = reference.get_slice(name)
            assert (found.dtype, list(found.shape)) == (piece.get_dtype(), piece.get_shape())
            raw = b"".join(bytes(piece) for piece in file.pieces(found.start, found.end))
            assert raw == tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("unit", [1, 3, 7, 1000])
def test_pieces_are_whole_units_and_together_the_bytes(tmp_path: Path, unit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensor_file, "_PIECE", 64)
    data = (np.arange(21_000) % 251).astype(np.uint8)
    save_file({"x": data}, tmp_path / "x")
    with open_tensor_file(tmp_path / "x") as file:
        found = file.tensors["x"]
        pieces = [bytes(piece) for piece in file.pieces(found.start, found.end, unit=unit)]
        assert b"".join(pieces) == data.tobytes()
        assert all(len(piece) % unit == 0 for piece in pieces)
        assert max(map(len, pieces)) <= max(64, unit)
        starts = [found.start + 10, found.start, found.end - 5]
        gathered = bytes(file.gathered(starts, 5))
        assert gathered == bytes(data[10:15]) + bytes(data[:5]) + bytes(data[-5:])


BAD: dict[str, tuple[object, int]] = {
    "not json": (b"{nonsense", 0),
    "not utf-8": (b'{"\xff": 1}', 0),
    "not an object": ([1, 2], 0),
    "deep": (b"[" * 100_000, 0),
    "beyond the end": ({"a": entry(offsets=(0, 4))}, 3),
    "trailing bytes": ({"a": entry()}, 5),
    "gap": ({"a": entry(), "b": entry(offsets=(5, 9))}, 9),
    "overlap": ({"a": entry(), "b": entry(offsets=(0, 4))}, 4),
    "backwards": ({"a": entry(offsets=(4, 0))}, 4),
    "negative": ({"a": entry(offsets=(-4, 0))}, 0),
    "wrong length": ({"a": entry(shape=(2,))}, 4),
    "huge shape": ({"a": entry(shape=(2**62, 2**62))}, 4),
    "negative shape": ({"a": entry(shape=(-1, -1))}, 4),
    "boolean shape": ({"a": entry(shape=(True,))}, 4),
    "fractional shape": ({"a": entry(shape=(1.0,))}, 4),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, 4),
    "three offsets": ({"a": entry(offsets=(0, 4, 4))}, 4),
    "no mapping": ({"a": 3}, 0),
    "metadata no texts": ({"__metadata__": {"a": 1}}, 0),
    "metadata no mapping": ({"__metadata__": "a"}, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_headers_that_do_not_fit_are_refused(tmp_path: Path, name: str):
    path = written(tmp_path / "x.safetensors", *BAD[name])
    with (
        pytest.raises(
            CorruptError, match=r"x\.safetensors: expected a safetensors file, got .*; fetch or save it again"
        ),
        open_tensor_file(path),
    ):
        pass
    with pytest.raises(SafetensorError), safe_open(path, "np"):  # and the reference library agrees
        pass


@pytest.mark.parametrize(
    ("size", "length", "got"),
    [
        (0, 0, "a file of 0 bytes"),
        (7, 0, "a file of 7 bytes"),
        (8, 1, "a header of 1 bytes in a file of 8"),
        (20, 2**63, f"a header of {2**63} bytes in a file of 20"),
    ],
)
def test_files_that_are_too_short_are_refused(tmp_path: Path, size: int, length: int, got: str):
    (tmp_path / "x").write_bytes((length.to_bytes(8, "little") + bytes(12))[:size])
    with pytest.raises(CorruptError, match=re.escape(got)), open_tensor_file(tmp_path / "x"):
        pass


@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_within_the_file(tmp_path_factory: Any, position: int, value: int):
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    save_file({"a": np.ones((3, 4), dtype=np.float32), "b": np.ones(5, dtype=np.int8)}, path)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data)
    try:
        with open_tensor_file(path) as file:
            ends = [found.end for found in file.tensors.values()]
            assert not ends or ends[-1] == len(data)
            assert all(bytes(piece) for e in file.tensors.values() for piece in file.pieces(e.start, e.end))
    except CorruptError:
        pass


def test_a_name_that_stands_there_twice_is_refused(tmp_path: Path):
    text = json.dumps(entry()).encode()
    path = written(tmp_path / "x", b'{"a":' + text + b',"a":' + text + b"}", 4)
    with pytest.raises(CorruptError, match="a key stands there twice"), open_tensor_file(path):
        pass


def test_a_dtype_to_come_is_held_to_its_offsets(tmp_path: Path):
    path = written(tmp_path / "x", {"a": entry("F4", (3,), (0, 2)), "b": entry(offsets=(2, 6))}, 6)
    with open_tensor_file(path) as file:
        assert [found.end - found.start for found in file.tensors.values()] == [2, 4]


def test_no_tensors_and_no_file(tmp_path: Path):
    with open_tensor_file(written(tmp_path / "x", {})) as file:
        assert file.tensors == {} and file.metadata == {}
    for path, reason in ((tmp_path / "absent", "No such file"), (tmp_path, "Is a directory")):
        with (
            pytest.raises(InputOutputError, match=f"expected a safetensors file, got: {reason}"),
            open_tensor_file(path),
        ):
            pass


def test_a_file_that_is_cut_short_while_it_is_read_is_told(tmp_path: Path):
    save_file({"x": np.zeros(100, dtype=np.uint8)}, tmp_path / "x")
    with open_tensor_file(tmp_path / "x") as file:
        with (tmp_path / "x").open("r+b") as other:
            other.truncate(file.tensors["x"].end - 1)
        with pytest.raises(InputOutputError, match="it was cut short"):
            list(file.pieces(file.tensors["x"].start, file.tensors["x"].end))
