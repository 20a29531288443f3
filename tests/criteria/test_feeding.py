from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparsify.api.prune import prune
from sparsify.criteria.context import Context
from sparsify.criteria.feeding import feed
from sparsify.criteria.layers import Layer, layers_of
from sparsify.criteria.wanda import wanda
from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import ReconstructSpec
from sparsify.train.reconstruct import reconstruct


def fed_to(
    model: nn.Module, names: tuple[str, ...], *inputs: Tensor, replaced: dict[str, Tensor] | None = None
) -> list[tuple[str, Tensor]]:
    seen: list[tuple[str, Tensor]] = []

    def see(layer: Layer, fed: Tensor) -> None:
        seen.append((layer.name, fed))

    layers = layers_of(Context(model, names, 0), "wanda")
    feed(model, layers, inputs, see, replaced=replaced, criterion="wanda")
    return seen


def test_every_input_of_every_layer_is_shown_in_running_order():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -4.0]])
    seen = fed_to(model, ("2.weight", "0.weight"), one, two)
    assert [(name, fed.tolist()) for name, fed in seen] == [
        ("0.weight", [[1.0, 2.0]]),
        ("2.weight", [[1.0, 0.0]]),
        ("0.weight", [[3.0, -4.0]]),
        ("2.weight", [[3.0, 4.0]]),
    ]


def test_replaced_weights_are_run_and_the_networks_own_stay():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    before = model[0].weight.clone()
    seen = fed_to(model, ("1.weight",), torch.ones(1, 2), replaced={"0.weight": torch.full((2, 2), 3.0)})
    assert seen[0][1].tolist() == [[6.0, 6.0]]
    assert torch.equal(model[0].weight, before)


def test_an_input_given_by_keyword_is_seen():
    class ByKeyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(input=x)

    assert fed_to(ByKeyword(), ("inner.weight",), torch.ones(1, 2))[0][1].tolist() == [[1.0, 1.0]]


class ReadDirectly(nn.Module):
    """As torchvision's Swin: the weight goes to `linear` and the layer is never called; one layer is used both ways."""

    def __init__(self):
        super().__init__()
        self.direct, self.both, self.product = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(x, weight=self.direct.weight, bias=self.direct.bias)
        x = nn.functional.linear(self.both(x) * 0 + 7, self.both.weight)
        return x @ self.product.weight.T


def test_a_weight_that_is_used_without_its_layer_is_seen_once_for_each_use():
    seen = fed_to(ReadDirectly(), ("both.weight", "direct.weight"), torch.ones(1, 2))
    assert [name for name, _ in seen] == ["direct.weight", "both.weight", "both.weight"]
    assert seen[0][1].tolist() == [[1.0, 1.0]] and seen[2][1].tolist() == [[7.0, 7.0]]


class SamePadded(nn.Conv2d):
    """As timm's: it pads what it is given by itself, and may standardise its weight."""

    def forward(self, input: Tensor) -> Tensor:
        padded = nn.functional.pad(input, (0, 1, 0, 1))
        weight = self.weight - self.weight.mean() if self.bias is None else self.weight
        return nn.functional.conv2d(padded, weight, self.bias, self.stride, (0, 0), groups=self.groups)


class Doubled(nn.Linear):
    """A layer that never calls `linear`: what it is given is the best that is known."""

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.weight.T


@pytest.mark.parametrize("bias", [True, False], ids=["its weight", "one made of it"])
def test_what_a_layer_with_a_forward_of_its_own_multiplies_is_seen(bias: bool):
    """Wanda's norms of a convolution that pads by itself are those of one that is fed what it pads."""
    torch.manual_seed(0)
    layer, inputs = SamePadded(4, 8, 3, stride=2, groups=2, bias=bias), torch.rand(3, 4, 6, 6)
    plain = nn.Conv2d(4, 8, 3, stride=2, groups=2)
    plain.weight = layer.weight
    found = wanda(Context(layer, ("weight",), 0, [(inputs, inputs)]))["weight"]
    padded = nn.functional.pad(inputs, (0, 1, 0, 1))
    assert torch.equal(found, wanda(Context(plain, ("weight",), 0, [(padded, padded)]))["weight"])


@pytest.mark.parametrize("padding", [0, 1])
def test_sparsegpt_and_reconstruction_treat_it_as_the_layer_that_it_amounts_to(padding: int):
    torch.manual_seed(0)
    inputs = torch.randn(16, 4, 8, 8)
    own = nn.Sequential(SamePadded(4, 8, 3, stride=2, padding=padding), nn.ReLU(), SamePadded(8, 8, 3, padding=padding))
    pads = nn.ZeroPad2d((0, 1, 0, 1))
    same = nn.Sequential(pads, nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(), pads, nn.Conv2d(8, 8, 3))
    for mine, plain in ((own[0], same[1]), (own[2], same[4])):
        plain.load_state_dict(mine.state_dict())
    outputs: list[tuple[Tensor, Tensor]] = []
    for model in (own, same):
        solved = prune(model, sparsity=0.5, criterion="sparsegpt", batches=[(inputs, None)]).model
        zeros = prune(model, sparsity=0.5)
        with torch.no_grad():
            reconstruct(zeros.model, model, zeros.mask, [inputs], ReconstructSpec())
            outputs.append((solved(inputs), zeros.model(inputs)))
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])


def test_a_layer_with_a_forward_of_its_own_is_seen_once_for_each_product_and_else_as_it_is_fed():
    class Twice(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.linear(input + 1, weight=self.weight) + nn.functional.linear(input + 2, self.weight)

    seen = fed_to(nn.Sequential(Twice(2, 2), Doubled(2, 2)), ("0.weight", "1.weight"), torch.zeros(1, 2))
    assert [name for name, _ in seen] == ["0.weight", "0.weight", "1.weight"]
    assert [fed.tolist() for _, fed in seen[:2]] == [[[1.0, 1.0]], [[2.0, 2.0]]]


def test_a_layer_that_never_runs_is_named():
    with pytest.raises(UsageError, match=r'wanda: expected every layer to run.*product.weight.*"product.weight": 0'):
        fed_to(ReadDirectly(), ("product.weight",), torch.ones(1, 2))


class Attention(nn.Module):
    def __init__(self, batch_first: bool, bias: bool):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_output_projection_of_attention_is_seen_though_it_is_never_called(batch_first: bool, bias: bool):
    torch.manual_seed(0)
    model, x = Attention(batch_first, bias), torch.randn(3, 5, 8)
    if bias:
        nn.init.normal_(model.attention.out_proj.bias)
    [(name, fed)] = fed_to(model, ("attention.out_proj.weight",), x)
    assert name == "attention.out_proj.weight"
    assert torch.allclose(model.attention.out_proj(fed), model(x), atol=1e-6)


def test_all_layers_of_torchs_transformer_layer_run_in_spite_of_its_fast_path():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    names = tuple(
        f"layers.{index}.{name}.weight" for index in (0, 1) for name in ("self_attn.out_proj", "linear1", "linear2")
    )
    assert [name for name, _ in fed_to(model, names, torch.randn(2, 3, 8))] == list(names)
