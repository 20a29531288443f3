from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.weights import load_tensors, read_tensors, save_tensors

SAMPLE = {
    "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "mask": torch.tensor([[True, False], [False, True]]),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 5),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "odd": torch.arange(3, dtype=torch.uint8),
}


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(actual) == sorted(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert actual[name].shape == tensor.shape
        assert torch.equal(actual[name], tensor), name


def test_every_dtype_reads_back(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE)
    assert_same(load_tensors(tmp_path / "t"), SAMPLE)


def test_the_library_reads_our_files(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE, {"level": "3"})
    assert_same(load_file(tmp_path / "t"), SAMPLE)
    with safe_open(tmp_path / "t", "pt") as file:
        assert file.metadata()["level"] == "3"


def test_we_read_the_librarys_files(tmp_path: Path):
    save_file(SAMPLE, tmp_path / "t", {"level": "3"})
    tensors, metadata = read_tensors(tmp_path / "t")
    assert_same(tensors, SAMPLE)
    assert metadata == {"level": "3"}


def test_tensors_start_at_multiples_of_their_element_size(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE)
    data = (tmp_path / "t").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, tensor in SAMPLE.items():
        assert json.loads(data[8 : 8 + length])[name]["data_offsets"][0] % tensor.element_size() == 0


def test_loaded_tensors_are_in_order_of_name(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE)
    assert list(load_tensors(tmp_path / "t")) == sorted(SAMPLE)


def test_bytes_depend_on_values_alone(tmp_path: Path):
    """Not on order of insertion, memory layout, gradients, or the process's hash seed."""
    metadata = {name: name for name in "abcdefgh"}
    save_tensors(tmp_path / "1", SAMPLE, metadata)
    strided = {**SAMPLE, "weight": SAMPLE["weight"].t().contiguous().t().requires_grad_()}
    save_tensors(tmp_path / "2", dict(reversed(strided.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    again = (
        "import sys; from pathlib import Path; from sparsify.store.weights import *; "
        "tensors, metadata = read_tensors(Path(sys.argv[1])); save_tensors(Path(sys.argv[2]), tensors, metadata)"
    )
    subprocess.run([sys.executable, "-c", again, str(tmp_path / "1"), str(tmp_path / "3")], check=True)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def test_loaded_tensors_are_ours_to_change(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE)
    load_tensors(tmp_path / "t")["weight"].zero_()
    assert_same(load_tensors(tmp_path / "t"), SAMPLE)


@given(st.data())
def test_a_flipped_byte_never_loads_as_something_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    save_tensors(path, SAMPLE, {"key": "k"})
    good = bytearray(path.read_bytes())
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(good)
    try:
        tensors, metadata = read_tensors(path)
    except CorruptError as error:
        assert "flipped.safetensors" in str(error)
    else:  # the flip fell on what has no meaning: padding of the header, or the checksum's own name
        assert_same(tensors, SAMPLE)
        assert metadata["key"] == "k"


@pytest.mark.parametrize("data", [b"", b"\x00" * 8, b"\xff" * 20, b"PK\x03\x04", b"\x02\x00\x00\x00\x00\x00\x00\x00[]"])
def test_other_files_are_refused(tmp_path: Path, data: bytes):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(CorruptError, match=r"t: expected a safetensors file, got damaged bytes"):
        load_tensors(tmp_path / "t")


def test_a_pickle_is_refused(tmp_path: Path):
    torch.save(SAMPLE, tmp_path / "t.pt")
    with pytest.raises(CorruptError):
        load_tensors(tmp_path / "t.pt")


def test_a_truncated_file_is_damage(tmp_path: Path):
    save_tensors(tmp_path / "t", SAMPLE)
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    with pytest.raises(CorruptError, match="t: expected a safetensors file"):
        load_tensors(tmp_path / "t")


def test_an_absent_file_is_named(tmp_path: Path):
    with pytest.raises(InputOutputError, match="gone: expected a safetensors file, got: No such file"):
        load_tensors(tmp_path / "gone")


def test_a_dtype_without_a_place_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"z: expected one of .*'BF16'.*got torch.complex64"):
        save_tensors(tmp_path / "t", {"z": torch.zeros(2, dtype=torch.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_the_reserved_name_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="__metadata__"):
        save_tensors(tmp_path / "t", {"__metadata__": torch.zeros(1)})
