"""Layers that no trace meets: what may feed them stays whole, so that the network still runs once they are reached."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cases_channels import Plain, lively
from sparsify.channels.idle import idle_parameters
from sparsify.channels.preflight import preflight
from sparsify.channels.remove import remove_channels
from sparsify.channels.untraceable import Untraceable

VECTORS = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).clamp(max=2)
RARE = torch.full((2, 16), 3.0)


Takes = Callable[["Branches", Tensor, Tensor], Tensor]


class Branches(nn.Module):
    """Three layers in a row, and `aside`, which `takes` uses of what the first gives, or does not."""

    def __init__(self, aside: nn.Module, takes: Takes) -> None:
        super().__init__()
        self.first, self.second, self.says = nn.Linear(16, 12), nn.Linear(12, 20), nn.Linear(20, 3)
        self.aside, self._takes = aside, takes

    def forward(self, x: Tensor) -> Tensor:
        hidden = self._takes(self, x, torch.relu(self.first(x)))
        return self.says(torch.relu(self.second(hidden)))


def rarely(module: Branches, x: Tensor, hidden: Tensor) -> Tensor:
    return module.aside(hidden) if bool((x > 2.5).any()) else hidden


def in_place_of_the_first(module: Branches, x: Tensor, hidden: Tensor) -> Tensor:
    return module.aside(x) if bool((x > 2.5).any()) else hidden


def in_training(module: Branches, x: Tensor, hidden: Tensor) -> Tensor:
    return hidden + module.aside(hidden).mean() if module.training else hidden


def never(module: Branches, x: Tensor, hidden: Tensor) -> Tensor:
    return hidden


@pytest.mark.parametrize(
    ("aside", "takes"),
    [
        (nn.Linear(12, 12), rarely),
        (nn.Linear(16, 12), in_place_of_the_first),
        (nn.Linear(12, 5), in_training),
        (nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 5)), in_training),
        (nn.Linear(12, 5), never),
    ],
    ids=["rare", "rare-and-beside", "in-training", "batch-norm-in-training", "left-over"],
)
def test_what_may_feed_a_layer_that_the_trace_did_not_meet_stays_whole(aside: nn.Module, takes: Takes):
    module = lively(Branches(aside, takes)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    removed = remove_channels(module, VECTORS, sparsity=0.4)
    assert removed.module.first.out_features == 12
    assert removed.module.second.out_features < 20
    assert "aside" in removed.report.skipped["first"]
    for mode in (True, False):
        assert removed.module.train(mode)(RARE).shape == (2, 3)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_layer_as_wide_as_nothing_that_runs_is_refused_by_name():
    module = Branches(nn.Linear(24, 12), lambda m, x, h: m.aside(torch.cat([h, h], 1)) if bool((x > 2.5).any()) else h)
    with pytest.raises(Untraceable, match=r"aside: .* a layer of 24 inputs, which no layer gives, that does not run"):
        preflight(module, VECTORS)


def test_experts_that_two_examples_do_not_reach_are_traced_by_more():
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.says = nn.Linear(16, 12), nn.Linear(12, 3)
            self.of = nn.ModuleList(nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            hidden = given = torch.relu(self.first(x))
            for index, expert in enumerate(self.of):
                if len(rows := ((x[:, 0] > 0) == bool(index)).nonzero()[:, 0]):
                    given = given.index_add(0, rows, expert(hidden[rows]))
            return self.says(given)

    module = lively(Experts())
    alike = VECTORS[VECTORS[:, 0] > 0][:2]
    assert idle_parameters(module, alike) == {f"of.0.{i}.{local}" for i in (0, 2) for local in ("weight", "bias")}
    both = torch.cat([alike, VECTORS[VECTORS[:, 0] < 0]])
    removed = remove_channels(module, both, sparsity=0.4)
    assert all(expert[0].out_features < 20 for expert in removed.module.of)
    assert removed.module(VECTORS).shape == (8, 3)


def test_a_network_that_does_not_run_in_training_mode_is_cut_all_the_same():
    class Evaluated(Plain):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ValueError("expected targets in training mode")
            return super().forward(x)

    module = lively(Evaluated()).eval()
    removed = remove_channels(module, torch.randn(4, 3, 8, 8), sparsity=0.5)
    assert removed.report.sparsity >= 0.5


def test_the_random_state_is_left_as_it_was():
    torch.manual_seed(3)
    module = lively(Branches(nn.Sequential(nn.Dropout(0.5), nn.Linear(12, 5)), in_training))
    state = torch.get_rng_state()
    remove_channels(module, VECTORS, sparsity=0.3)
    assert torch.equal(torch.get_rng_state(), state)
