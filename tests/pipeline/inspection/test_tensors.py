from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsify.errors import CorruptError
from sparsify.pipeline.inspection import inspect
from sparsify.store.packed import pack
from sparsify.store.weights import save_tensors

STATE = {
    "layer.weight": torch.tensor([[1.0, 0.0, -0.5], [0.0, 0.0, 2.0]]),
    "layer.bias": torch.tensor([0.0, 1.0]),
    "steps": torch.tensor(0),
}


def test_every_tensor_has_a_row(tmp_path: Path):
    save_tensors(tmp_path / "t.safetensors", STATE, {"level": "1"})
    document = inspect(tmp_path / "t.safetensors")
    assert document["kind"] == "tensors"
    rows = [(one["name"], one["dtype"], one["shape"], one["kept"], one["sparsity"]) for one in document["layers"]]
    assert rows == [
        ("layer.bias", "float32", [2], 1, 0.5),
        ("layer.weight", "float32", [2, 3], 3, 0.5),
        ("steps", "int64", [], 0, 1.0),
    ]
    assert document["totals"] == {"elements": 9, "kept": 4, "sparsity": 1 - 4 / 9}
    assert document["weights"] == {"elements": 6, "kept": 3, "sparsity": 0.5}
    assert document["metadata"] == {"level": "1"}
    assert document["file_bytes"] == (tmp_path / "t.safetensors").stat().st_size


def test_sizes_of_tensors_are_masked_and_packed_only(tmp_path: Path):
    save_tensors(tmp_path / "t.safetensors", STATE)
    assert inspect(tmp_path / "t.safetensors")["sizes_bytes"] == {
        "masked": 6 * 4 + 2 * 4 + 8,
        "packed": len(pack(STATE)),
        "shrunk": None,
    }


def test_a_mask_counts_what_it_keeps_and_has_no_sizes(tmp_path: Path):
    save_tensors(tmp_path / "m.safetensors", {"a": torch.tensor([True, False, False, False])})
    document = inspect(tmp_path / "m.safetensors")
    assert document["weights"] == {"elements": 4, "kept": 1, "sparsity": 0.75}
    assert document["sizes_bytes"] is None


def test_packed_tensors_are_the_same_but_for_the_file(tmp_path: Path):
    (tmp_path / "t.packed").write_bytes(pack(STATE))
    save_tensors(tmp_path / "t.safetensors", STATE)
    packed, plain = inspect(tmp_path / "t.packed"), inspect(tmp_path / "t.safetensors")
    same = ("layers", "totals", "weights", "sizes_bytes")
    assert {name: packed[name] for name in same} == {name: plain[name] for name in same}


def test_a_changed_packed_file_is_named(tmp_path: Path):
    data = bytearray(pack(STATE))
    data[-40] ^= 1
    (tmp_path / "t.packed").write_bytes(data)
    with pytest.raises(CorruptError, match=r"t\.packed: packed tensors: changed"):
        inspect(tmp_path / "t.packed")


def test_empty_tensors_are_not_divided_by(tmp_path: Path):
    save_tensors(tmp_path / "t.safetensors", {"empty": torch.empty(0, 3)})
    assert inspect(tmp_path / "t.safetensors")["weights"] == {"elements": 0, "kept": 0, "sparsity": 0.0}
