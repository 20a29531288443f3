from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsify.train.precision import autocast_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONVOLUTIONAL, LINEAR = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))
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
        (False, CONVOLUTIONAL, None),
    ],
    ids=["amx and convolutions", "amx without", "amx and depthwise", "no amx"],
)
def test_auto_takes_bf16_on_a_cpu_where_it_gains(monkeypatch, amx: bool, model: nn.Module, dtype: object):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("auto", CPU, model) is dtype


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), None)])
def test_auto_takes_bf16_from_ampere_on(monkeypatch, capability: tuple[int, int], dtype: object):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert autocast_dtype("auto", CUDA, LINEAR) is dtype
