from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparsify.errors import CorruptError
from sparsify.models.history import replay, shallow, substitute


def network() -> nn.Sequential:
    """Its attention is never run."""
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Linear(4, 2), nn.MultiheadAttention(4, 2)
    )


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


def test_attention_is_taken_apart_under_every_name_that_it_has_and_then_cut():
    module = nn.ModuleDict({"one": nn.MultiheadAttention(4, 2), "rest": nn.ModuleList([nn.Linear(4, 4)])})
    module["rest"].extend([module["one"], module["one"]])
    packed = module["one"].in_proj_weight.detach().clone()
    replay(
        module,
        [
            {"module": "one", "becomes": "SeparateAttention"},
            {"tensor": "one.q_proj.weight", "axis": 0, "removed": [0, 1]},
            {"module": "one", "attribute": "num_heads", "value": 1},
        ],
    )
    assert module["one"] is module["rest"][1] is module["rest"][2]
    assert torch.equal(module["one"].q_proj.weight, packed[2:4]) and module["one"].num_heads == 1
    assert torch.equal(module["one"].v_proj.weight, packed[8:])


def test_what_was_taken_apart_is_not_taken_apart_again():
    entry = {"module": "4", "becomes": "SeparateAttention"}
    with pytest.raises(CorruptError, match=r"history of 4: expected an nn.MultiheadAttention .* SeparateAttention to"):
        replay(network(), [entry, entry])


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
        {"module": "0", "becomes": "SeparateAttention"},
        {"module": "9", "becomes": "SeparateAttention"},
        {"module": 4, "becomes": "SeparateAttention"},
        {"module": "4", "becomes": "Sequential"},
        {"module": "4", "becomes": ["SeparateAttention"]},
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
