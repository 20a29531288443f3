from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparsify.errors import CorruptError
from sparsify.models.history import replay, shallow, substitute


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Linear(4, 2))


def test_slices_and_counts_are_as_the_history_says():
    module = network()
    weight, mean = module[0].weight.detach().clone(), torch.arange(4.0)
    module[1].running_mean.copy_(mean)
    replayed = replay(
        module,
        [
            {"tensor": "0.weight", "axis": 0, "removed": [1, 3]},
            {"tensor": "0.weight", "axis": 1, "removed": [0]},
            {"tensor": "1.running_mean", "axis": 0, "removed": [1, 3]},
            {"module": "0", "attribute": "out_features", "value": 2},
            {"module": "2", "attribute": "normalized_shape", "value": [2]},
        ],
    )
    assert replayed is module
    assert torch.equal(module[0].weight, weight[[0, 2]][:, [1, 2]])
    assert module[1].running_mean.tolist() == [0.0, 2.0]
    assert module[0].out_features == 2 and module[2].normalized_shape == (2,)
    assert isinstance(module[0].weight, nn.Parameter) and "running_mean" in dict(module[1].named_buffers())


def test_frozen_stays_frozen_and_tied_stays_tied():
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight
    module.requires_grad_(False)
    replay(module, [{"tensor": "0.weight", "axis": 1, "removed": [0]}])
    assert module[1].weight is module[0].weight and module[0].weight.shape == (5, 3)
    assert not module[0].weight.requires_grad


@pytest.mark.parametrize(
    "entry",
    [
        {"tensor": "9.weight", "axis": 0, "removed": [0]},
        {"tensor": 3, "axis": 0, "removed": [0]},
        {"tensor": "0.weight", "axis": 2, "removed": [0]},
        {"tensor": "0.weight", "axis": -1, "removed": [0]},
        {"tensor": "0.weight", "axis": True, "removed": [0]},
        {"tensor": "0.weight", "axis": 0, "removed": [4]},
        {"tensor": "0.weight", "axis": 0, "removed": [-1]},
        {"tensor": "0.weight", "axis": 0, "removed": [0, 0]},
        {"tensor": "0.weight", "axis": 0, "removed": [0, 1, 2, 3]},
        {"tensor": "0.weight", "axis": 0, "removed": "01"},
        {"tensor": "0.weight", "axis": 0},
        {"module": "0", "attribute": "forward", "value": 1},
        {"module": "0", "attribute": "__class__", "value": 1},
        {"module": "0", "attribute": "training", "value": 1},
        {"module": "0", "attribute": "out_features", "value": -1},
        {"module": "0", "attribute": "out_features", "value": "2"},
        {"module": "0", "attribute": "out_features", "value": [2]},
        {"module": "2", "attribute": "normalized_shape", "value": [2, 2]},
        {"module": "2", "attribute": "normalized_shape", "value": ["2"]},
        {"module": "9", "attribute": "out_features", "value": 2},
        {},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(entry: dict[str, Any]):
    with pytest.raises(CorruptError, match=r"channel history of .*is it this network's history\?"):
        replay(network(), [entry])


def test_an_entry_that_is_no_object_is_refused():
    with pytest.raises(CorruptError, match="expected an object"):
        replay(network(), ["0.weight"])  # pyright: ignore[reportArgumentType]


def test_a_shallow_copy_shares_tensors_and_parts_when_they_are_replaced():
    module = network()
    copied = shallow(module)
    assert copied[0].weight is module[0].weight and copied[0] is not module[0]
    substitute(copied, {"0.weight": torch.zeros_like})
    assert not copied[0].weight.any() and module[0].weight.any()
