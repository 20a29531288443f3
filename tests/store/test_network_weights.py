from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsify.errors import CorruptError, InputOutputError
from sparsify.store import network_weights
from sparsify.store.network_weights import load_weights, save_weights

STATE = {
    "a.weight": torch.tensor([[0.0, -0.0, 1.5], [float("nan"), 0.0, -2.0]]),
    "a.steps": torch.tensor(7),
    "b.weight": torch.tensor([0.0, 3.0], dtype=torch.bfloat16),
}


def bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in state.items()}


@pytest.mark.parametrize(("packed", "name"), [(True, "weights.packed"), (False, "weights.safetensors")])
def test_what_is_read_has_the_bits_of_what_was_written(tmp_path: Path, packed: bool, name: str):
    save_weights(tmp_path, STATE, packed=packed)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert bits(load_weights(tmp_path)) == bits(STATE)


def test_zeros_take_no_space(tmp_path: Path):
    dense = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    save_weights(tmp_path, {"w": dense.where(dense.abs() > dense.abs().quantile(0.9), 0.0)}, packed=True)
    assert (tmp_path / "weights.packed").stat().st_size < 0.11 * dense.nbytes


def test_what_would_not_be_unpacked_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(network_weights, "LARGEST", 8)
    save_weights(tmp_path, STATE, packed=True)
    assert bits(load_file(tmp_path / "weights.safetensors")) == bits(STATE)


def test_damage_and_absence_name_the_file(tmp_path: Path):
    with pytest.raises(InputOutputError, match=r"weights\.safetensors: expected a safetensors file"):
        load_weights(tmp_path)
    save_weights(tmp_path, STATE, packed=True)
    data = bytearray((tmp_path / "weights.packed").read_bytes())
    data[-40] ^= 1
    (tmp_path / "weights.packed").write_bytes(data)
    with pytest.raises(CorruptError, match=r"weights\.packed: packed tensors: changed"):
        load_weights(tmp_path)
