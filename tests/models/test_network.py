from __future__ import annotations

import json

import pytest
import torch

from cases import same_bits
from sparsify.errors import CorruptError, UsageError
from sparsify.lottery.network import Network as NetworkOfTickets
from sparsify.models.network import Network

MLP = Network("mlp:4-3-2", (1, 2, 2), 2)


def test_tickets_know_the_same_network():
    assert NetworkOfTickets is Network


def test_what_was_written_before_options_and_channels_still_loads(tmp_path):
    (tmp_path / "network.json").write_text('{"classes": 10, "input_shape": [3, 32, 32], "model": "resnet-20"}\n')
    network = Network.load(tmp_path)
    assert network == Network("resnet-20", (3, 32, 32), 10)
    network.save(tmp_path / "again")
    assert json.loads((tmp_path / "again/network.json").read_text()) == {
        "model": "resnet-20",
        "input_shape": [3, 32, 32],
        "classes": 10,
    }


def test_options_and_channels_come_back(tmp_path):
    history = [{"tensor": "hidden1.weight", "axis": 0, "removed": [1]}]
    network = Network("timm:resnet10t", (1, 32, 32), 4, {"img_size": [32, 32]}, history)
    network.save(tmp_path)
    assert Network.load(tmp_path) == network


@pytest.mark.parametrize(
    "values",
    [
        {"model": "resnet-20", "input_shape": [32, 32], "classes": 10},
        {"model": "timm:x", "input_shape": [], "classes": 10},
        {"model": "timm:x", "input_shape": [3, 8, 8], "classes": 10, "options": []},
        {"model": "timm:x", "input_shape": [3, 8, 8], "classes": 10, "channels": {}},
        {"model": "timm:x", "input_shape": [3, 8, 8]},
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, values):
    (tmp_path / "network.json").write_text(json.dumps(values))
    with pytest.raises(CorruptError, match=r"network\.json: expected a network description"):
        Network.load(tmp_path)


def test_equal_seeds_give_equal_bits_and_leave_the_global_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = MLP.build(seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(MLP.build(seed=1).state_dict(), first)
    assert same_bits(MLP.build(seed=2, weights=first).state_dict(), first)


def test_the_channel_history_is_cut_out_before_the_weights_are_filled_in():
    history = [
        {"tensor": "hidden1.weight", "axis": 0, "removed": [1]},
        {"tensor": "hidden1.bias", "axis": 0, "removed": [1]},
        {"tensor": "output.weight", "axis": 1, "removed": [1]},
        {"module": "hidden1", "attribute": "out_features", "value": 2},
        {"module": "output", "attribute": "in_features", "value": 2},
    ]
    whole = MLP.build(seed=1)
    narrow = Network(MLP.model, MLP.input_shape, 2, channels=history)
    cut = narrow.build(seed=1)
    assert torch.equal(cut.get_parameter("hidden1.weight"), whole.get_parameter("hidden1.weight")[[0, 2]])
    again = narrow.build(seed=7, weights=cut.state_dict())
    assert torch.equal(again(MLP.example()), cut(MLP.example()))
    with pytest.raises(UsageError, match=r"network\.json: .*3 misshapen \(hidden1\.weight: expected \(2, 4\), got"):
        narrow.build(weights=whole.state_dict())


def test_a_source_that_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="model: expected a model's name"):
        Network("m", (1, 2, 3), 2).build()


def test_examples_have_the_shape_asked_for_and_are_repeatable():
    example = MLP.example(5, seed=2)
    assert example.shape == (5, 1, 2, 2) and example.dtype == torch.float32
    assert torch.equal(example, MLP.example(5, seed=2))
    assert not torch.equal(example, MLP.example(5, seed=3))
