from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsify.criteria.context import Context
from sparsify.criteria.layers import Layer, layers_of
from sparsify.errors import UsageError
from sparsify.masks.nm import keep_n_of_m

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 5, 6)),
    "conv": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 6)),
    "conv-strided-dilated": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(2, 0)), (2, 4, 7, 6)),
    "conv-grouped": (nn.Conv2d(4, 6, 3, groups=2, padding="same"), (2, 4, 5, 6)),
    "conv-depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1, padding_mode="reflect"), (2, 4, 5, 6)),
    "conv-circular": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"), (2, 4, 5, 6)),
    "conv-1d": (nn.Conv1d(4, 6, 5, stride=2, groups=2), (3, 4, 11)),
    "conv-3d": (nn.Conv3d(2, 4, (2, 3, 1), padding=(1, 0, 0), padding_mode="replicate"), (2, 2, 4, 5, 3)),
    "unbatched": (nn.Conv2d(4, 6, 3), (4, 5, 6)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_columns_times_matrices_are_what_the_layer_computes(case: str):
    module, shape = LAYERS[case]
    module = module.double()
    layer = Layer("weight", module)
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = layer.columns(layer.examples(inputs)) @ layer.matrices(module.weight).transpose(1, 2)
    ours = torch.cat(list(product), dim=1)  # (samples, out)
    theirs = module(inputs) - module.bias.view(-1, *[1] * (0 if case == "linear" else len(module.kernel_size)))
    theirs = theirs if case == "linear" else theirs.movedim(-module.weight.dim() + 1, -1)
    assert torch.allclose(ours, theirs.reshape(-1, len(module.weight)), atol=1e-12)
    assert torch.equal(layer.tensor(layer.matrices(module.weight)), module.weight)


@pytest.mark.parametrize("case", LAYERS)
def test_sums_of_squares_are_those_of_the_columns(case: str):
    module, shape = LAYERS[case]
    layer = Layer("weight", module)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    columns = layer.columns(layer.examples(inputs.double()))
    assert torch.allclose(layer.square_sums(inputs), columns.square().sum(1))


def test_a_convolution_of_one_group_unfolds_as_torch_does():
    module = nn.Conv2d(3, 2, (2, 3), padding=1, stride=2)
    inputs = torch.randn(2, 3, 6, 7)
    theirs = functional.unfold(inputs, (2, 3), padding=1, stride=2)  # (N, channels * positions of the kernel, L)
    theirs = theirs.unflatten(1, (3, 6)).transpose(1, 2).flatten(1, 2).transpose(1, 2).flatten(0, 1)
    assert torch.equal(Layer("weight", module).columns(inputs)[0], theirs)


def test_m_consecutive_columns_are_m_consecutive_channels():
    module = nn.Conv2d(8, 6, 3, groups=2)
    layer = Layer("weight", module)
    kept = keep_n_of_m(module.weight.detach().abs(), 2, 4, 1)
    assert bool((layer.matrices(kept).unflatten(2, (-1, 4)).sum(-1) == 2).all())


def test_a_transformers_conv1d_is_a_linear_layer_stored_transposed():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    module = conv1d(4, 6)
    layer = layers_of(Context(nn.Sequential(module), ("0.weight",), 0), "x")[0]
    inputs = torch.randn(2, 3, 6)
    ours = layer.columns(layer.examples(inputs))[0] @ layer.matrices(module.weight)[0].T
    assert torch.allclose(ours, module(inputs).reshape(-1, 4), atol=1e-6)
    assert torch.equal(layer.tensor(layer.matrices(module.weight)), module.weight)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.b.weight = self.a.weight
        self.norm = nn.LayerNorm(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@pytest.mark.parametrize(
    ("name", "said"),
    [("norm.weight", "norm.weight of LayerNorm"), ("a.bias", "a.bias of Linear"), ("a.weight", "a.weight tied to b")],
)
def test_what_is_no_layer_of_its_own_is_refused_by_name(name: str, said: str):
    names = (name, "b.weight") if name == "a.weight" else (name,)
    with pytest.raises(UsageError, match=rf"wanda: expected .*{said}.*leave"):
        layers_of(Context(Shared(), names, 0), "wanda")
