"""Channels through the public door: which of them go, counted by hand, and the same as through the command."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparsify.api.prune import prune
from sparsify.criteria.context import Context
from sparsify.errors import UsageError
from sparsify.models.build import prunable
from sparsify.models.network import Network
from sparsify.pipeline.prune_removal import remove, survey
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_recipe import RemovalSpec

INPUTS = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
BATCHES = [(INPUTS, torch.arange(4) % 3)]
NETWORK = Network("mlp:16-8-3", (1, 4, 4), 3)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def spiky() -> nn.Module:
    """Unit 0 has the least sum of sizes and, of one large weight, by no means the least sum of squares."""
    model = network()
    with torch.no_grad():
        model[1].weight.fill_(0.5)
        model[1].weight[0] = 0
        model[1].weight[0, 0] = 7.0
        model[3].weight.fill_(0.5)
    return model


def test_magnitude_of_a_channel_is_its_l1_norm():
    pruned = prune(spiky(), sparsity=0.1, pattern="channel", batches=BATCHES)
    [gone] = [entry["removed"] for entry in pruned.history if entry.get("tensor") == "1.weight"]
    assert gone == [0]


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "wanda"])
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_the_command_removes_the_same_channels(criterion, allocation):
    model, loss = network(), nn.functional.cross_entropy
    asked = {"criterion": criterion, "allocation": allocation, "overrides": {}, "round_to": 2}
    ours = prune(model, sparsity=0.5, pattern="channel", batches=BATCHES, loss=loss, **asked)
    context = Context(copy.deepcopy(model), prunable(model), 0, BATCHES, loss)
    spec = RemovalSpec(pattern=Pattern("channel"), **asked)
    theirs = remove(context, NETWORK, spec, sparsity=0.5, macs=None)
    assert list(ours.history) == theirs.network.channels != []
    assert ours.report.channels["widths"] == theirs.report["widths"]


def test_wanda_of_a_channel_is_what_it_is_fed_times_its_weights_and_those_that_read_it():
    """By hand: each row of the writer and column of the reader, times the norms of their inputs, lowest sums go."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    images = BATCHES[0][0].flatten(1)
    with torch.no_grad():
        fed = model[:3](BATCHES[0][0]).norm(dim=0)
        worth = (model[1].weight.abs() * images.norm(dim=0)).sum(1) + (model[3].weight.abs() * fed).sum(0)
    pruned = prune(model, sparsity=0.5, pattern="channel", criterion="wanda", batches=BATCHES)
    [gone] = [entry["removed"] for entry in pruned.history if entry.get("tensor") == "1.weight"]
    assert gone == sorted(worth.argsort()[: len(gone)].tolist()) and len(gone) == 6


def test_wanda_tells_outputs_apart_that_can_only_be_masked():
    model = Unfollowed()
    pruned = prune(model, sparsity=0.3, pattern="channel", criterion="wanda", batches=BATCHES)
    norms = BATCHES[0][0].flatten(1).norm(dim=0)
    worth = (model.body.weight.detach().abs() * norms).sum(1)
    kept = pruned.mask["body.weight"].any(1)
    assert 0 < int(kept.sum()) < 8 and worth[kept].min() > worth[~kept].max()


class Unfollowed(nn.Module):
    """No gradient reaches its output, so that nothing can be traced; its head is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x.flatten(1)))).detach()


def test_what_cannot_be_followed_is_masked_in_whole_outputs_and_says_so():
    model = Unfollowed()
    pruned = prune(model, sparsity=0.4, pattern="channel", batches=BATCHES, round_to=4)
    rows = pruned.mask["body.weight"].any(1)
    sums = model.body.weight.detach().abs().sum(1)
    assert int(rows.sum()) == 4 and sums[rows].min() > sums[~rows].max()
    assert pruned.mask["head.weight"].all() and bool((pruned.model.body.weight[~rows] == 0).all())
    outputs = pruned.model.body(INPUTS.flatten(1))  # a masked output is its bias
    assert torch.equal(outputs[:, ~rows], model.body.bias[~rows].expand(len(INPUTS), 4))
    assert pruned.history == [] and "no gradient reaches" in pruned.report.masked_because
    assert pruned.report.skipped == {"head": "layer head gives the network's output"}
    assert pruned.report.sparsity == pruned.mask.sparsity == 64 / 152
    assert pruned.report.channels["widths"]["body"]["after"] == 4


class Normalised(nn.Linear):
    """Its rows have length one, which a row of zeros cannot have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True))


def test_outputs_that_cannot_be_zero_are_refused_and_not_pruned_to_nan():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), Normalised(16, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(UsageError, match="Sequential: expected outputs whose weights can be zero, got none finite"):
        prune(model, sparsity=0.4, pattern="channel", batches=BATCHES)
    assert bool(prune(model, sparsity=0.4).model(INPUTS).isfinite().all())


def test_the_command_masks_the_same():
    model, asked = Unfollowed(), {"criterion": "magnitude", "allocation": "uniform", "overrides": {"body": 0.25}}
    ours = prune(model, sparsity=0.2, pattern="channel", batches=BATCHES, **asked)
    context = Context(copy.deepcopy(model), prunable(model), 0, BATCHES)
    theirs = remove(context, NETWORK, RemovalSpec(pattern=Pattern("channel"), **asked), sparsity=0.2, macs=None)
    assert ours.mask == theirs.mask and int(ours.mask["body.weight"].any(1).sum()) == 6
    assert theirs.report["masked_because"] == ours.report.masked_because and theirs.network == NETWORK
    removal = RemovalSpec(pattern=Pattern("channel"))
    with pytest.raises(UsageError, match="its channels can only be masked, which leaves the MACs") as refused:
        remove(context, NETWORK, removal, sparsity=None, macs=0.5)
    assert survey(model, BATCHES[0][0], removal, sparsity=None, macs=0.5)[1] == str(refused.value)


def test_shuffled_as_many_channels_go_of_each_layer_and_others():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    asked = {"sparsity": 0.5, "pattern": "channel", "batches": BATCHES}
    plain, drawn, again = (
        prune(model, **asked),
        prune(model, **asked, shuffled=True),
        prune(model, **asked, shuffled=True),
    )
    assert plain.report.channels["widths"] == drawn.report.channels["widths"]
    assert plain.history != drawn.history == again.history
    spec = RemovalSpec(pattern=Pattern("channel"), shuffled=True)
    context = Context(copy.deepcopy(model), prunable(model), 0, BATCHES)
    assert remove(context, NETWORK, spec, sparsity=0.5, macs=None).network.channels == drawn.history


class Flipped(nn.Module):
    """It is traced, but channels that are added to themselves in reverse order cannot be cut by any that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.body(x.flatten(1)))
        return self.head(y + y.flip(1).square())


def test_where_nothing_that_was_traced_can_be_cut_whole_outputs_are_masked_and_the_reason_is_said():
    torch.manual_seed(0)
    model = Flipped()
    pruned = prune(model, sparsity=0.4, pattern="channel", batches=BATCHES)
    assert "one of which no layer can lose any (body: " in pruned.report.masked_because
    silent = (pruned.model.body.weight == 0).all(1)
    assert int(silent.sum()) == 4 and pruned.report.sparsity == pytest.approx(4 * 16 / (8 * 16 + 8 * 3))
    spec = RemovalSpec(pattern=Pattern("channel"))
    found, refused = survey(model, INPUTS, spec, sparsity=0.4, macs=None)
    assert found.masked_because == pruned.report.masked_because and refused == ""
    assert [(row.module, row.status) for row in found.rows] == [("body", "prunable"), ("head", "skipped")]
    with pytest.raises(UsageError, match=r"body: .*its channels can only be masked, which leaves the MACs"):
        prune(model, macs=0.5, pattern="channel", batches=BATCHES)


def test_a_network_of_which_nothing_can_be_masked_either_is_refused_as_before():
    with pytest.raises(UsageError, match=r"at most 0 can go.*Layers left alone: 1: layer 1 gives the network's output"):
        prune(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), sparsity=0.4, pattern="channel", batches=BATCHES)


def test_a_search_in_which_no_channel_can_go_names_what_was_asked_and_no_sparsity_of_its_own():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    rounded = RemovalSpec(pattern=Pattern("channel"), round_to=16)
    refused = survey(model, INPUTS, rounded, sparsity=0.95, macs=None, or_most=True)[1]
    assert refused.startswith(
        "channels: none can go in multiples of 16; round to fewer than 16 channels, or prune with"
    )
    anyhow = RemovalSpec(pattern=Pattern("channel"))
    assert survey(model, INPUTS, anyhow, sparsity=0.95, macs=None, or_most=True)[1] == ""
