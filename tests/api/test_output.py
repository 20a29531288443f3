"""Networks that return something else than one tensor, pruned by what a function makes of it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from sparsify.api.output import restore_output, restored_output, transform_output
from sparsify.api.prune import prune
from sparsify.errors import UsageError

INPUTS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(INPUTS, torch.arange(6) % 3)]


class Says(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(torch.relu(self.body(x))))


class Bare(Says):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return super().forward(x).logits


def logits(output: SimpleNamespace) -> torch.Tensor:
    return output.logits


def accuracy(model: nn.Module) -> float:
    return float((model(INPUTS).logits.argmax(1) == BATCHES[0][1]).float().mean())


@pytest.mark.parametrize(
    "asked",
    [
        {"pattern": "channel", "macs": 0.6},
        {"sparsity": 0.5, "criterion": "taylor"},
        {"sparsity": 0.5, "criterion": "sparsegpt"},
        {"sparsity": 0.5, "criterion": "synflow"},
    ],
    ids=lambda asked: asked.get("criterion", "channel"),
)
def test_it_is_pruned_as_the_network_that_returns_the_tensor_and_keeps_its_own_output(asked):
    loss = functional.cross_entropy
    bare = prune(Bare(), batches=BATCHES, loss=loss, **asked)
    said = prune(Says(), batches=BATCHES, loss=loss, output_transform=logits, evaluate=accuracy, **asked)
    assert said.mask == bare.mask and list(said.history) == list(bare.history)
    assert torch.equal(said.model(INPUTS).logits, bare.model(INPUTS))
    assert "forward" not in vars(said.model) and said.report.metric == accuracy(said.model)


def test_without_it_the_network_is_refused_and_the_mend_is_said():
    for asked in ({"pattern": "channel", "sparsity": 0.5}, {"criterion": "wanda", "sparsity": 0.5}):
        with pytest.raises(UsageError, match=r"expected one tensor out of it, got SimpleNamespace; give output_transf"):
            prune(Says(), batches=BATCHES, **asked)


def test_a_searched_allocation_measures_the_network_as_its_owner_knows_it():
    pruned = prune(Says(), sparsity=0.5, allocation="searched", evaluate=accuracy, output_transform=logits)
    assert pruned.report.sparsity == pytest.approx(0.5, abs=0.02)


def test_a_copy_made_meanwhile_runs_its_own_weights_and_a_forward_of_its_own_is_put_back():
    model = Says()
    own = model.forward
    model.forward = lambda x: own(2 * x)
    transform_output(model, logits)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model.head.weight.zero_()
    assert isinstance(copied(INPUTS), torch.Tensor)
    with restored_output(model):
        assert isinstance(model(INPUTS), SimpleNamespace)
    assert isinstance(model(INPUTS), torch.Tensor)
    restore_output(model)
    assert isinstance(model(INPUTS), SimpleNamespace)
    transformed = Says()
    transform_output(transformed, logits)
    copied = copy.deepcopy(transformed)
    with torch.no_grad():
        transformed.head.weight.zero_()
    assert not torch.equal(copied(INPUTS), transformed(INPUTS))


def test_transformers_return_dataclasses():
    pytest.importorskip("torchvision_schemas")
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=30, **sizes)).eval()
    ids = torch.randint(1, 30, (4, 6), generator=torch.Generator().manual_seed(0))
    pruned = prune(
        model,
        pattern="channel",
        macs=0.7,
        batches=[(ids, torch.arange(4) % 2)],
        output_transform=logits,
        keep=["*intermediate*"],
    )
    assert pruned.report.masked_because == "" and pruned.report.channels["macs"] <= 0.7
    assert pruned.model.get_submodule("bert.encoder.layer.0.intermediate.dense").out_features == 24
    assert pruned.model(ids).logits.shape == (4, 2)
