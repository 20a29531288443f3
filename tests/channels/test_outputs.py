"""Which layers give the output, told by hand; networks that no gradient is followed through among them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases_channels import IDS, IMAGES, TOKENS, Act, Mha, Plain, Recurrent, Residual, TiedText, Transformer
from sparsify.channels.outputs import output_layers
from sparsify.errors import UsageError


class Headless(nn.Module):
    """The output is the residual sum of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Linear(16, 8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return x + self.down(torch.relu(self.up(x)))


class InPlace(nn.Module):
    """Two heads written into one output, the weight of the second used by other code than its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.body, self.first = nn.Linear(8, 2), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).relu_()
        out = torch.zeros(*y.shape[:-1], 5)
        out[..., :3] = self.first(y)
        out[..., 3:] = F.linear(y, self.second.weight.clone(), self.second.bias)
        return out


@pytest.mark.parametrize(
    ("module", "example", "expected"),
    [
        (Plain(), IMAGES, {"output.weight"}),
        (Residual(), IMAGES, {"says.weight"}),
        (nn.Sequential(Residual(), Act(lambda x: x.softmax(1).argmax(1))), IMAGES, {"0.says.weight"}),
        (nn.Sequential(Plain(), nn.BatchNorm1d(4), nn.Dropout()), IMAGES, {"0.output.weight"}),
        (Transformer(), TOKENS, {"output.weight"}),
        (Headless(), TOKENS, {"embed.weight", "down.weight"}),
        (InPlace(), TOKENS, {"first.weight", "second.weight"}),
        (nn.Sequential(nn.Linear(16, 16), Mha()), TOKENS, {"1.inner.out_proj.weight"}),
        (Recurrent(nn.LSTM), TOKENS, {"output.weight"}),
        (TiedText(), IDS, {"head.weight"}),
    ],
    ids=["plain", "residual", "argmax", "norm", "transformer", "headless", "in-place", "attention", "lstm", "tied"],
)
def test_what_flows_to_the_end_through_no_other_layer(module: nn.Module, example: Tensor, expected: set[str]):
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert output_layers(module, example) == expected
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_through_a_scripted_part():
    module = Plain()
    module.middle = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))
    assert output_layers(module, IMAGES) == {"output.weight"}


def test_an_output_that_comes_from_nowhere_is_refused():
    through_numpy = nn.Sequential(Plain(), Act(lambda x: torch.tensor(x.numpy().tolist())))
    with pytest.raises(UsageError, match=r"expected an output that some layer gives, .* got Tensor with none"):
        output_layers(through_numpy, IMAGES)
