from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cases_channels import IMAGES, TOKENS, Plain, Residual, Transformer, agree, lively, outputs, silenced, slices
from sparsify.channels.macs import count_macs
from sparsify.channels.remove import remove_channels
from sparsify.errors import UsageError
from sparsify.models.build import build, prunable
from sparsify.models.history import replay

ZOO = {
    "lenet-300-100": (1, 28, 28),
    "lenet-5": (1, 20, 20),
    "conv-2": (1, 12, 12),
    "resnet-20": (3, 16, 16),
    "mobilenet-v2": (1, 32, 32),
}


def weights(module: nn.Module, names: tuple[str, ...]) -> int:
    return sum(module.get_parameter(name).numel() for name in names)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("target", [{"sparsity": 0.6}, {"macs": 0.5, "round_to": 4}], ids=["sparsity", "macs"])
def test_the_zoo_reaches_its_target_agrees_with_its_mask_and_is_built_again(name: str, target: dict[str, Any]):
    example = torch.randn(2, *ZOO[name], generator=torch.Generator().manual_seed(1))
    module = lively(build(name, input_shape=ZOO[name], classes=10, seed=0))
    removed = remove_channels(module, example, **target)
    small, report = removed.module, removed.report
    assert agree(outputs(small, example), outputs(silenced(module, slices(removed.history)), example))
    kept = weights(small, prunable(module)) / weights(module, prunable(module))
    assert report.sparsity == pytest.approx(1 - kept)
    assert report.macs == count_macs(small, example).total / count_macs(module, example).total
    if "sparsity" in target:
        assert 0.6 <= report.sparsity < 0.62
    else:
        assert 0.44 < report.macs <= 0.5
        assert all(width.after % 4 == 0 or width.after == width.before for width in report.widths.values())
    fresh = replay(build(name, input_shape=ZOO[name], classes=10, seed=9), json.loads(json.dumps(removed.history)))
    fresh.load_state_dict(small.state_dict())
    assert torch.equal(outputs(fresh, example), outputs(small, example))


def test_torch_pruning_cuts_the_same():
    module = lively(build("resnet-20", input_shape=(3, 8, 8), classes=10, seed=0)).eval()
    removed = remove_channels(module, IMAGES, sparsity=0.5)
    theirs = copy.deepcopy(module)
    for root in removed.report.widths:
        graph = torch_pruning.DependencyGraph().build_dependency(theirs, [IMAGES], verbose=False)
        gone = slices(removed.history).get((f"{root}.weight", 0), [])
        graph.get_pruning_group(theirs.get_submodule(root), torch_pruning.prune_conv_out_channels, gone).prune()
    ours = removed.module.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())


def test_the_least_norms_go_by_default_and_the_lowest_scores_where_given():
    module = lively(Plain())
    with torch.no_grad():
        module.conv1.weight[[1, 4]] *= 0.01
        module.conv2.weight[:, [1, 4]] *= 0.01
    picked = {"sparsity": 0.05, "overrides": {"*": 0, "conv1": 0.25}}
    assert slices(remove_channels(module, IMAGES, **picked).history)["conv1.weight", 0] == [1, 4]
    scores = {name: torch.ones_like(module.get_parameter(name)) for name in prunable(module)}
    scores["conv1.weight"][[0, 7]] = 0.0
    removed = remove_channels(module, IMAGES, scores=lambda _: scores, **picked)
    assert slices(removed.history)["conv1.weight", 0] == [0, 7]


def test_overrides_are_fractions_of_channels_and_the_longest_glob_wins():
    removed = remove_channels(lively(Residual()), IMAGES, sparsity=0.1, overrides={"conv*": 0.25, "conv1.weight": 0.5})
    assert removed.module.conv1.out_channels == 6
    assert removed.module.conv2.out_channels == removed.module.stem.out_channels == 6


def test_a_layer_left_whole_keeps_its_outputs():
    removed = remove_channels(lively(Residual()), IMAGES, sparsity=0.2, overrides={"stem": 0})
    assert removed.module.stem.out_channels == 8 and removed.module.conv1.out_channels < 12


def test_uniform_takes_the_same_of_every_layer():
    report = remove_channels(lively(Transformer()), TOKENS, macs=0.5, allocation="uniform").report
    shares = [width.after / width.before for width in report.widths.values()]
    assert max(shares) - min(shares) <= 0.25  # a head of four is a quarter


def test_asked_and_achieved_are_reported_as_plain_values():
    report = remove_channels(lively(Residual()), IMAGES, sparsity=0.4).report
    values = json.loads(json.dumps(report.to_json()))
    assert values["asked"] == {"sparsity": 0.4}
    assert values["sparsity"] >= 0.4 and values["macs_left"] < values["macs_dense"]
    assert values["parameters_left"] < values["parameters_dense"]
    assert values["widths"]["stem"]["coupled"] == ["conv2"]
    assert values["skipped"] == {"says": "layer says gives the network's output"}
    assert values["difference"] < 1e-9


def test_dtypes_are_kept():
    removed = remove_channels(lively(Residual()).to(torch.bfloat16), IMAGES.to(torch.bfloat16), sparsity=0.4)
    floating = [value for value in removed.module.state_dict().values() if value.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.bfloat16}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "expected one target, sparsity or macs, got none"),
        ({"sparsity": 0.5, "macs": 0.5}, "got sparsity and macs"),
        ({"sparsity": 1.0}, r"sparsity: expected a fraction above 0 and below 1, got 1\.0"),
        ({"macs": 0.0}, r"macs: expected a fraction"),
        ({"sparsity": 0.5, "round_to": 0}, "round_to: expected a whole number from 1, got 0"),
        ({"sparsity": 0.5, "overrides": {"stem": 1.0}}, r"overrides: 'stem': expected a fraction from 0, below 1"),
        ({"sparsity": 0.5, "overrides": {"stemm": 0.5}}, "overrides: 'stemm' matches no layer"),
        (
            {"sparsity": 0.999},
            r"sparsity: asked for 0\.999, but at most 0\.9\d+ can go; .* says gives the",
        ),
        ({"macs": 0.001}, r"macs: asked for 0\.001, but at least 0\.0\d+ are left"),
        ({"sparsity": 0.5, "scores": lambda _: {}}, r"scores of says.weight: expected shape \(5, 8\), got none"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        remove_channels(lively(Residual()), IMAGES, **arguments)


class Drawn(nn.Module):
    """Layers drawn at random: convolutions, norms, groups, residuals and concatenations, then an output."""

    def __init__(self, plan: list[tuple[str, int]]) -> None:
        super().__init__()
        self.plan, self.layers = plan, nn.ModuleList()
        channels = 3
        for kind, width in plan:
            if kind == "conv":
                layer = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
                channels = width
            elif kind == "residual":
                layer = nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU(), nn.Conv2d(width, channels, 1))
            elif kind == "concat":
                layer = nn.Conv2d(channels, width, 3, padding=1)
                channels += width
            else:
                layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.layers.append(layer)
        self.output = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        for (kind, _), layer in zip(self.plan, self.layers, strict=True):
            y = layer(x)
            x = x + y if kind == "residual" else torch.cat([x, y], 1) if kind == "concat" else y
        return self.output(x.mean(dim=(2, 3)))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from(["conv", "residual", "concat", "depthwise"]), st.integers(2, 9)), max_size=5),
    st.floats(0.05, 0.6),
)
def test_networks_drawn_at_random_agree_with_their_masks(plan: list[tuple[str, int]], sparsity: float):
    module = lively(Drawn([("conv", 6), *plan]))
    try:
        removed = remove_channels(module, IMAGES, sparsity=sparsity)
    except UsageError as error:
        assert "but at most" in str(error)
        return
    assert removed.report.sparsity >= sparsity
    assert agree(outputs(removed.module, IMAGES), outputs(silenced(module, slices(removed.history)), IMAGES))
