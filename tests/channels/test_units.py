from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cases_channels import IMAGES, Act, Plain, agree, lively, outputs, silenced, slices
from sparsify.channels.preflight import preflight
from sparsify.channels.remove import remove_channels
from sparsify.channels.trace import trace_groups


def conv1_of(middle: nn.Module):
    read = middle(torch.zeros(2, 8, 8, 8)).shape[1]
    return next(group for group in trace_groups(Plain(middle, read=read), IMAGES) if "conv1" in group.writers)


def test_blocks_of_a_grouped_convolution_take_their_inputs_and_outputs_along():
    group = conv1_of(nn.Conv2d(8, 12, 3, padding=1, groups=4))
    places = {(cut.tensor, cut.axis): cut.places for cut in group.cuts}
    assert group.units == 4 and group.unit_size == 2
    assert places["conv1.weight", 0] == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert places["middle.weight", 0] == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert {(count.attribute, len(count.places[0])) for count in group.resizes if count.module == "middle"} == {
        ("groups", 1),
        ("in_channels", 2),
        ("out_channels", 3),
    }


CASES = {
    "grouped": (nn.Conv2d(8, 8, 3, padding=1, groups=2), 8),
    "grouped, wider": (nn.Conv2d(8, 12, 3, padding=1, groups=4), 12),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), 8),
    "depthwise with a multiplier": (nn.Conv2d(8, 16, 3, padding=1, groups=8), 16),
    "group norm": (nn.GroupNorm(4, 8), 8),
    "group norm of one group": (nn.GroupNorm(1, 8), 8),
    "group norm inside groups": (nn.Sequential(nn.Conv2d(8, 8, 1, groups=4), nn.GroupNorm(2, 8)), 8),
    "instance norm": (nn.InstanceNorm2d(8, affine=True, track_running_stats=True), 8),
    "prelu": (nn.PReLU(8), 8),
    "prelu of one": (nn.PReLU(), 8),
    "transposed": (nn.ConvTranspose2d(8, 10, 2, stride=2), 10),
    "concatenation with itself": (Act(lambda x: torch.cat([x, torch.sigmoid(x)], 1)), 16),
}


@pytest.mark.parametrize("middle, read", CASES.values(), ids=CASES.keys())
def test_what_is_cut_agrees_with_the_mask(middle: nn.Module, read: int):
    module = lively(Plain(middle, read=read))
    removed = remove_channels(module, IMAGES, sparsity=0.01, overrides={"*": 0, "conv1": 0.5})
    assert "conv1" in removed.report.widths
    assert removed.module.conv1.out_channels < 8
    if not isinstance(middle, nn.GroupNorm) or middle.num_groups > 1:  # whose masked twin is in test_reference.py
        assert agree(outputs(removed.module, IMAGES), outputs(silenced(module, slices(removed.history)), IMAGES))


class Shuffled(nn.Module):
    """Adds what it is given in another order, so that channels go in the cycles of that order."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x[:, [1, 0, 3, 2, 5, 4, 7, 6]]


def test_channels_that_are_added_in_another_order_are_refused_not_cut_wrongly():
    found = preflight(lively(Plain(Shuffled())), IMAGES)
    assert "conv1" in found.skipped


def test_a_normalised_pair_is_one_unit_where_two_blocks_overlap():
    middle = nn.Sequential(nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 1, groups=2))
    group = conv1_of(middle)
    assert (group.units, group.unit_size) == (2, 4)
