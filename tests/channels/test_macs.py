from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cases_channels import IMAGES, TOKENS, Mha, Plain, Transformer
from sparsify.channels.macs import count_macs
from sparsify.models.build import build


def flops(module: nn.Module, example: torch.Tensor) -> int:
    """torch's own count, of two operations a MAC."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(example)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "module, example",
    [
        (Plain(), IMAGES),
        (Plain(nn.Conv2d(8, 8, 3, groups=4)), IMAGES),
        (Plain(nn.Conv2d(8, 8, 3, stride=2, groups=8)), IMAGES),
        (nn.Sequential(nn.ConvTranspose2d(3, 6, 3, stride=2), nn.Conv2d(6, 2, 1)), IMAGES),
        (nn.Conv1d(5, 4, 3), TOKENS),
        (Transformer(), TOKENS),
    ],
    ids=["convolution", "grouped", "depthwise", "transposed", "conv1d", "attention"],
)
def test_twice_the_macs_are_torchs_flops(module: nn.Module, example: torch.Tensor):
    assert 2 * len(example) * count_macs(module, example).total == flops(module, example)


def test_resnet_20_has_the_macs_of_its_layers():
    # He et al. 2016: 40.55M for CIFAR at option A; option B adds its two projections, 16 x 32 x 16^2 + 32 x 64 x 8^2.
    stem, stage1 = 3 * 16 * 9 * 32**2, 6 * 16 * 16 * 9 * 32**2
    stage2 = (16 * 32 + 5 * 32 * 32) * 9 * 16**2 + 16 * 32 * 16**2
    stage3 = (32 * 64 + 5 * 64 * 64) * 9 * 8**2 + 32 * 64 * 8**2
    model = build("resnet-20", input_shape=(3, 32, 32), classes=10, seed=0)
    assert count_macs(model, torch.zeros(1, 3, 32, 32)).total == stem + stage1 + stage2 + stage3 + 640


def test_the_products_of_attention_lie_with_its_module():
    macs = count_macs(Transformer(), TOKENS)
    assert macs.attention == {"attn": 2 * 4 * 5 * 5 * 4}  # Q K^T and its product with V: heads x N x N x size
    assert macs.layers["attn.q_proj.weight"] == 5 * 16 * 16


def test_torchs_own_attention_is_counted_though_it_calls_no_layer():
    macs = count_macs(Transformer(Mha()), TOKENS)
    assert sum(macs.attention.values()) == 5 * 16 * 48 + 2 * 4 * 5 * 5 * 4 + 5 * 16 * 16


@pytest.mark.parametrize("kind, gates", [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_costs_its_gates_at_every_step(kind: type[nn.RNNBase], gates: int):
    """By hand: each direction of each layer multiplies what it is fed and its state (6) for every gate."""
    layer = kind(5, 6, num_layers=2, bidirectional=True, batch_first=True)
    steps = torch.randn(3, 7, 5)
    macs = count_macs(layer, steps)
    assert macs.total == 7 * gates * 6 * (2 * (5 + 6) + 2 * (12 + 6))
    assert macs.layers == {}


def test_a_layer_used_twice_counts_twice():
    layer = nn.Linear(4, 4)
    assert count_macs(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(2, 4)).total == 32


def test_modes_and_hooks_are_as_before():
    module = Plain()
    module.conv2.eval()
    count_macs(module, IMAGES)
    assert module.training and not module.conv2.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
