from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases_channels import IMAGES, TOKENS, Plain, Residual, Transformer, lively
from sparsify.channels.group import Group
from sparsify.channels.reference import masked
from sparsify.channels.trace import trace_groups


def with_writer(module: nn.Module, example: Tensor, name: str) -> Group:
    return next(group for group in trace_groups(module, example) if name in group.writers)


def test_weights_biases_and_a_batch_norms_shift_are_zero_and_nothing_else():
    module = lively(Residual())
    group = with_writer(module, IMAGES, "conv1")
    after = masked(module, [group], {group.root: (1, 5)}).state_dict()
    for name, value in module.state_dict().items():
        expected = value.clone()
        if name in ("conv1.weight", "conv1.bias", "norm1.weight", "norm1.bias", "norm1.running_mean"):
            expected[[1, 5]] = 0
        if name == "conv2.weight":
            expected[:, [1, 5]] = 0
        assert torch.equal(after[name], expected), name


@pytest.mark.parametrize("kind", ["layer norm", "rms norm"])
def test_a_norm_over_channels_normalises_the_kept_ones_alone(kind: str):
    module = lively(nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8) if kind == "layer norm" else nn.RMSNorm(8), Last()))
    group = with_writer(module, TOKENS, "0")
    gone, kept = (0, 3, 4), [1, 2, 5, 6, 7]
    with torch.no_grad():
        x = module[0](TOKENS)[..., kept]
        scale = module[1].weight[kept]
        if kind == "layer norm":
            centred = x - x.mean(-1, keepdim=True)
            y = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + module[1].bias[kept]
        else:
            y = x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt() * scale
        expected = F.linear(y, module[2].inner.weight[:, kept], module[2].inner.bias)
        torch.testing.assert_close(masked(module, [group], {group.root: gone})(TOKENS), expected)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_group_norm_of_one_group_normalises_the_kept_channels_alone():
    module = lively(Plain(nn.GroupNorm(1, 8)))
    group = with_writer(module, IMAGES, "conv1")
    kept = [0, 1, 2, 4, 7]
    with torch.no_grad():
        x = module.conv1(IMAGES)[:, kept]
        x = F.group_norm(x, 1, module.middle.weight[kept], module.middle.bias[kept])
        x = F.conv2d(x, module.conv2.weight[:, kept], module.conv2.bias, padding=1)
        expected = module.output(torch.relu(x).mean(dim=(2, 3)))
        torch.testing.assert_close(masked(module, [group], {group.root: (3, 5, 6)})(IMAGES), expected)


def test_the_original_keeps_its_values():
    module = lively(Transformer())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    groups = trace_groups(module, TOKENS)
    masked(module, groups, {group.root: (0,) for group in groups})
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
