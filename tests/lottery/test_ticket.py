from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cases import Search, same_bits, tiny_recipe
from sparsify.errors import CorruptError, InputOutputError
from sparsify.lottery.network import Network, prunable_weights
from sparsify.lottery.ticket import Ticket
from sparsify.train.evaluate import evaluate


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path, tiny_recipe())


def test_a_folder_describes_itself(search: Search):
    ticket = Ticket(search.ticket(1).folder)
    assert ticket.network == Network(search.recipe.model, (1, 6, 6), 3)
    module = ticket.module()
    assert not module.training
    assert same_bits(module.state_dict(), ticket.trained_weights)
    score = evaluate(module, search.data.validation)
    assert score.accuracy == ticket.history["final_accuracy"] == ticket.history["validation_accuracy"][-1]
    assert score.loss == ticket.history["validation_loss"][-1]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"model": "m", "input_shape": [1, 2], "classes": 3}', '{"model": "m", "input_shape": 1}']
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str):
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(CorruptError, match=r"network\.json: expected a network description, got .*ticket's folder\?"):
        Network.load(tmp_path)


def test_a_folder_that_is_no_tickets_says_so(tmp_path: Path):
    with pytest.raises(CorruptError, match=r"network\.json: .*is this a ticket's folder\?"):
        _ = Ticket(tmp_path).network
    with pytest.raises(CorruptError, match=r"history\.json: expected a training history"):
        _ = Ticket(tmp_path).history
    with pytest.raises(InputOutputError, match=r"mask\.safetensors"):
        _ = Ticket(tmp_path).mask


def test_a_network_is_saved_and_loaded(tmp_path: Path):
    network = Network("resnet-20", (3, 32, 32), 10)
    network.save(tmp_path)
    assert Network.load(tmp_path) == network


def test_a_network_is_built_from_a_seed_or_from_weights():
    network = Network("mlp:4-3-2", (1, 2, 2), 2)
    first = network.build(seed=1)
    assert same_bits(network.build(seed=1).state_dict(), first.state_dict())
    assert not same_bits(network.build(seed=2).state_dict(), first.state_dict())
    assert same_bits(network.build(seed=2, weights=first.state_dict()).state_dict(), first.state_dict())


def test_prunable_weights_are_detached_and_in_module_order():
    module = Network("mlp:4-3-2", (1, 2, 2), 2).build(seed=1)
    weights = prunable_weights(module)
    assert list(weights) == ["hidden1.weight", "output.weight"]
    assert not any(weight.requires_grad for weight in weights.values())
    assert torch.equal(weights["output.weight"], module.get_parameter("output.weight"))
