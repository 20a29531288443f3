from __future__ import annotations

import pytest
import torch

from sparsify.train.precision import autocast_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_what_is_named_is_taken_on_any_device(device: torch.device):
    assert autocast_dtype("fp32", device) is None
    assert autocast_dtype("bf16", device) is torch.bfloat16


@pytest.mark.parametrize(("amx", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_auto_takes_bf16_on_a_cpu_with_matrix_units(monkeypatch: pytest.MonkeyPatch, amx: bool, dtype: object):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("auto", CPU) is dtype


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), None)])
def test_auto_takes_bf16_from_ampere_on(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: object):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert autocast_dtype("auto", CUDA) is dtype
