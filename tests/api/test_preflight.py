"""What can be pruned, said before anything is touched: rows by hand, the reach against what a removal then does."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cases_channels import IMAGES, TOKENS, Mha, Plain, Residual, Transformer, lively
from sparsify.api.preflight import preflight
from sparsify.api.prune import prune
from sparsify.channels.remove import remove_channels
from sparsify.errors import UsageError


def test_every_layer_is_named_with_what_becomes_of_it_and_nothing_is_changed():
    model = lively(Residual()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = preflight(model, IMAGES)
    assert [(row.module, row.status, row.reason) for row in found.rows] == [
        ("says", "skipped", "layer says gives the network's output"),
        ("stem", "prunable", ""),
        ("conv1", "prunable", ""),
        ("conv2", "coupled", "stem"),
    ]
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    lines = str(found).splitlines()
    assert " ".join(lines[0].split()) == "says Linear 5 skipped: layer says gives the network's output"
    assert " ".join(lines[3].split()) == "conv2 Conv2d 8 coupled with stem"
    assert json.loads(json.dumps(found.to_json()))["rows"][2]["module"] == "conv1"


@pytest.mark.parametrize("asked", [{}, {"round_to": 4}, {"overrides": {"conv1": 0}}, {"keep": ["stem"]}], ids=str)
def test_the_reach_is_what_a_removal_of_all_that_can_go_leaves(asked):
    model = lively(Residual())
    far = preflight(model, IMAGES, **asked).reach
    most = remove_channels(model, IMAGES, sparsity=0.9999, or_most=True, **asked).report
    assert (far.sparsity, far.macs) == (pytest.approx(most.sparsity), pytest.approx(most.macs))
    assert far.macs_dense == most.macs_dense
    with pytest.raises(UsageError, match="at most"):
        prune(model, sparsity=far.sparsity + 1e-3, pattern="channel", batches=[(IMAGES, IMAGES)], **asked)


def test_attention_that_is_taken_apart_first_is_told_by_its_projections():
    model = lively(Transformer(attention=Mha()))
    most = remove_channels(model, TOKENS, sparsity=0.9999, or_most=True).report
    far = preflight(model, TOKENS)
    assert (far.reach.sparsity, far.reach.macs) == (pytest.approx(most.sparsity), pytest.approx(most.macs))
    kept = preflight(model, TOKENS, keep=["attn.inner.q_proj"], overrides={"mlp.0": 0.5})
    assert {row.module: row.status for row in kept.rows}["attn.inner.q_proj"] == "skipped"
    assert kept.reach.sparsity < far.reach.sparsity
    with pytest.raises(UsageError, match="overrides: 'nothing' matches no layer"):
        preflight(model, TOKENS, overrides={"nothing": 0})


def test_what_is_too_narrow_to_round_is_skipped_with_all_that_is_coupled_to_it():
    found = preflight(lively(Residual()), IMAGES, round_to=8)
    rows = {row.module: row for row in found.rows}
    assert rows["stem"].status == rows["conv2"].status == "skipped" and rows["conv1"].status == "prunable"
    assert rows["stem"].reason.startswith("its 8 units are too few") and "coupled with stem" in rows["conv2"].reason


def test_of_masks_it_says_what_the_pattern_fits():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(6 * 64, 10))
    found = preflight(model, IMAGES, pattern="2:4", overrides={"4.weight": 0})
    assert [(row.module, row.status) for row in found.rows] == [("0", "skipped"), ("2", "prunable"), ("4", "skipped")]
    assert "no multiple of 4" in found.rows[0].reason and "override" in found.rows[2].reason
    assert found.reach.sparsity == 24 / (24 + 48 + 3840) and found.reach.macs == 1
    assert preflight(model, IMAGES, pattern="unstructured", keep=["4"]).reach.sparsity == (24 + 48) / (24 + 48 + 3840)


def test_what_cannot_be_followed_can_be_masked_and_that_is_said():
    class Unfollowed(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    model = lively(Unfollowed())
    found = preflight(model, IMAGES)
    assert [(row.module, row.status) for row in found.rows][-1] == ("output", "skipped")
    assert "no gradient reaches" in found.masked_because and "masked (their weights are zero, their biases stay" in str(
        found
    )
    weights = [model.conv1.weight.numel(), model.conv2.weight.numel(), model.output.weight.numel()]
    assert found.reach.sparsity == pytest.approx((weights[0] * 7 / 8 + weights[1] * 5 / 6) / sum(weights))


def test_a_network_that_is_a_single_layer_is_named_in_words():
    model = torch.nn.Linear(6, 3)
    found = preflight(model, torch.randn(4, 6))
    why = "its one layer gives the network's output"
    assert str(found).splitlines()[0] == f"the network itself  Linear       3  skipped: {why}"
    assert found.beyond({"sparsity": 0.5}, round_to=1).endswith(f". Layers left alone: the network itself: {why}")
    with pytest.raises(UsageError, match="keep: 'nothing' matches no layer; there are the network itself"):
        preflight(model, torch.randn(4, 6), keep="nothing")
    with pytest.raises(UsageError, match=f"Layers left alone: the network itself: {why}"):
        preflight(model, torch.randn(4, 6), output_transform=torch.Tensor.detach)  # which can only be masked


def test_a_network_that_returns_something_else_takes_a_transform():
    class Says(Plain):
        def forward(self, x: torch.Tensor) -> SimpleNamespace:  # pyright: ignore
            return SimpleNamespace(logits=super().forward(x))

    with pytest.raises(UsageError, match="give output_transform"):
        preflight(Says(), IMAGES)
    found = preflight(lively(Says()), IMAGES, output_transform=lambda output: output.logits)
    assert [row.status for row in found.rows] == ["prunable", "prunable", "skipped"]
