"""Channels masked where a network cannot be followed: which outputs go, counted by hand and by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cases_channels import IMAGES, TOKENS, Residual, lively
from sparsify.channels.mask import mask_channels
from sparsify.errors import UsageError
from sparsify.models.build import prunable


class Two(nn.Module):
    """Two layers and an output, which is registered first."""

    def __init__(self, first: int = 6, second: int = 8) -> None:
        super().__init__()
        self.says = nn.Linear(second, 3)
        self.a, self.b = nn.Linear(16, first), nn.Linear(first, second)

    def forward(self, x: Tensor) -> Tensor:
        return self.says(self.b(self.a(x)))


def sizes(module: nn.Module) -> dict[str, Tensor]:
    return {name: module.get_parameter(name).detach().abs() for name in prunable(module)}


def left(mask: dict[str, Tensor]) -> dict[str, int]:
    return {name.removesuffix(".weight"): int(kept.flatten(1).any(1).sum()) for name, kept in mask.items()}


def test_the_weakest_outputs_go_first_whatever_a_layers_scale():
    scores = {"a.weight": torch.ones(6, 16), "b.weight": torch.full((8, 6), 500.0), "says.weight": torch.ones(3, 8)}
    scores["b.weight"][5] = 100.0  # a fifth of the others, where all of `a` are worth the same
    mask = mask_channels(Two(), TOKENS, sparsity=6 / 168, scores=scores).mask
    assert left(mask) == {"a": 6, "b": 7, "says": 3}
    assert not mask["b.weight"][5].any()


@given(st.integers(0, 1000), st.integers(1, 70).map(lambda percent: percent / 100), st.booleans())
def test_at_least_as_much_goes_as_asked_in_whole_outputs_and_the_least_of_each_layer(
    seed: int, sparsity: float, uniform: bool
):
    module = lively(Two(), seed)
    allocation = "uniform" if uniform else "global"
    mask = mask_channels(module, TOKENS, sparsity=sparsity, scores=sizes(module), allocation=allocation).mask
    assert sparsity <= mask.sparsity < sparsity + (16 + 6) / mask.total
    assert mask["says.weight"].all()
    for name in ("a.weight", "b.weight"):
        rows = mask[name].flatten(1)
        assert (rows.all(1) | ~rows.any(1)).all() and rows.any()
        worth = module.get_parameter(name).detach().abs().sum(1).numpy()
        kept = rows.any(1).numpy()
        assert kept.all() or worth[kept].min() >= worth[~kept].max()


def test_overrides_keep_and_rounding_hold():
    module = lively(Two(first=16, second=32))
    asked = {"sparsity": 0.4, "scores": sizes(module), "round_to": 8}
    assert left(mask_channels(module, TOKENS, **asked, overrides={"a": 0.5}).mask)["a"] == 8
    assert left(mask_channels(module, TOKENS, **asked, overrides={"a.weight": 0}).mask) == {"a": 16, "b": 8, "says": 3}
    kept = mask_channels(module, TOKENS, **asked, keep=["a"])
    assert left(kept.mask)["a"] == 16 and kept.widths["b"].after == 8
    assert kept.skipped == {"says": "layer says gives the network's output", "a": "kept, because a matches 'a'"}
    small = Two(first=6, second=16)
    narrow = mask_channels(small, TOKENS, sparsity=0.1, scores=sizes(small), round_to=8)
    assert "its 6 units are too few to leave a multiple" in narrow.skipped["a"] and left(narrow.mask)["b"] == 8


def test_uniform_takes_the_same_share_of_every_layer():
    module = lively(Two(first=16, second=32))
    with torch.no_grad():
        module.b.weight[16:] *= 1e-3
    mask = mask_channels(module, TOKENS, sparsity=0.3, scores=sizes(module), allocation="uniform").mask
    assert abs(left(mask)["b"] - 2 * left(mask)["a"]) <= 1  # the last may be given back


def test_convolutions_and_transposed_linear_layers_lose_whole_outputs():
    module = lively(Residual())
    mask = mask_channels(module, IMAGES, sparsity=0.3, scores=sizes(module)).mask
    assert left(mask)["says"] == 5 and left(mask)["conv1"] < 12
    pytest.importorskip("transformers")
    from transformers.pytorch_utils import Conv1D

    turned = nn.Sequential(Conv1D(6, 16), nn.Linear(6, 3))  # (in, out)
    mask = mask_channels(turned, TOKENS, sparsity=0.4, scores=sizes(turned)).mask
    columns = mask["0.weight"].numpy()
    assert np.array_equal(columns.any(0), columns.all(0)) and not columns.all()


def test_too_much_is_refused_with_what_can_be():
    with pytest.raises(UsageError, match=r"asked for 0\.9, but at most 0\.7262 can go"):
        mask_channels(Two(), TOKENS, sparsity=0.9, scores=sizes(Two()))
    with pytest.raises(UsageError, match="overrides: 'c' matches no layer"):
        mask_channels(Two(), TOKENS, sparsity=0.5, scores=sizes(Two()), overrides={"c": 0})
