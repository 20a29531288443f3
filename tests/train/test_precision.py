from __future__ import annotations

import pytest
import torch
from torch import nn

from cases import MemoryKeeper, same_bits, short_training, tiny_data, tiny_model
from sparsify.errors import Preempted
from sparsify.train.loop import fit
from sparsify.train.precision import autocast_dtype, settled

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONVOLUTIONAL, LINEAR = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))
ALONG_TIME = nn.Sequential(nn.Conv2d(1, 2, (64, 1)), nn.Conv2d(2, 2, 3))
DEPTHWISE = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, groups=2))


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("model", [CONVOLUTIONAL, LINEAR], ids=["conv", "linear"])
def test_what_is_named_is_taken_everywhere(device: torch.device, model: nn.Module):
    assert autocast_dtype("fp32", device, model) is None
    assert autocast_dtype("bf16", device, model) is torch.bfloat16


@pytest.mark.parametrize(
    ("amx", "model", "dtype"),
    [
        (True, CONVOLUTIONAL, torch.bfloat16),
        (True, LINEAR, None),
        (True, DEPTHWISE, None),
        (True, ALONG_TIME, None),
        (False, CONVOLUTIONAL, None),
    ],
    ids=["amx and convolutions", "amx without", "amx and depthwise", "amx and one axis", "no amx"],
)
def test_auto_takes_bf16_on_a_cpu_where_it_gains(monkeypatch, amx: bool, model: nn.Module, dtype: object):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("auto", CPU, model) is dtype


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), None)])
def test_auto_takes_bf16_from_ampere_on(monkeypatch, capability: tuple[int, int], dtype: object):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert autocast_dtype("auto", CUDA, LINEAR) is dtype


@pytest.mark.parametrize("amx", [True, False])
def test_what_auto_was_is_kept_in_the_history_and_by_a_resumed_training(monkeypatch, amx: bool):
    """Resumed on a machine of the other kind, a training goes on in what it began in, bit for bit."""
    data = tiny_data(train=48, validation=8, shape=(1, 8, 8))
    spec, ran = short_training("6it", precision="auto"), "bf16" if amx else "fp32"

    def machine(amx: bool) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    machine(amx)
    assert settled("auto", CPU, CONVOLUTIONAL) == ran
    whole, parted = (tiny_model("conv-2", data) for _ in range(2))
    assert fit(whole, data, spec, seed=1).history.to_json()["precision"] == ran
    keeper = MemoryKeeper(stop_after=3)
    with pytest.raises(Preempted):
        fit(parted, data, spec, seed=1, keeper=keeper)
    machine(not amx)
    resumed = tiny_model("conv-2", data, seed=9)
    assert fit(resumed, data, spec, seed=1, keeper=MemoryKeeper(saved=keeper.saved)).history.precision == ran
    assert same_bits(resumed.state_dict(), whole.state_dict())
