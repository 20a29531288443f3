from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparsify.criteria import sparsegpt as module
from sparsify.criteria.compensation import Settings, prune_matrices
from sparsify.criteria.sparsegpt import sparsegpt
from sparsify.errors import UsageError
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern

UNSTRUCTURED, PAIRS = Pattern.parse("unstructured"), Pattern.parse("2:4")


def batches(*shapes: tuple[int, ...], seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(shape, generator=generator), torch.zeros(shape[0])) for shape in shapes]


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4)).double()


def test_each_layer_is_pruned_on_the_inputs_that_the_pruned_layers_before_give_it():
    model = two_layers()
    data = [(inputs.double(), labels) for inputs, labels in batches((20, 8), (30, 8))]
    x = torch.cat([inputs for inputs, _ in data])
    # Names are given backwards: what counts is the order in which layers run.
    names, shares = ("2.weight", "0.weight"), {"0.weight": 0.5, "2.weight": 0.25}
    mask, new = sparsegpt(model, names, data, pattern=UNSTRUCTURED, sparsity=shares, blocksize=4)
    keep, first = prune_matrices(model[0].weight.detach()[None], (x.T @ x)[None], Settings(UNSTRUCTURED, 4), 0.5, "")
    assert torch.equal(mask["0.weight"], keep[0])
    assert torch.allclose(new["0.weight"], first[0])
    hidden = torch.relu(x @ first[0].T + model[0].bias).detach()
    hessian = (hidden.T @ hidden)[None]
    keep, second = prune_matrices(model[2].weight.detach()[None], hessian, Settings(UNSTRUCTURED, 4), 0.25, "")
    assert torch.equal(mask["2.weight"], keep[0])
    assert torch.allclose(new["2.weight"], second[0])
    assert mask.layer_kept == {"0.weight": 48, "2.weight": 36}


def test_layers_of_one_block_are_pruned_on_the_same_run():
    """As in the authors' code: the inputs of a block's layers are those of the block before any of it is pruned."""
    torch.manual_seed(0)
    model = nn.Sequential(two_layers(), nn.Linear(4, 4).double())
    [(x, y)] = [(inputs.double(), labels) for inputs, labels in batches((50, 8))]
    names = ("0.0.weight", "0.2.weight", "1.weight")
    _, new = sparsegpt(model, names, [(x, y)], pattern=UNSTRUCTURED, sparsity=dict.fromkeys(names, 0.5))
    inside = model[0][1](model[0][0](x)).detach()
    weight, hessian = model[0][2].weight.detach(), (inside.T @ inside)[None]
    assert torch.allclose(new["0.2.weight"], prune_matrices(weight[None], hessian, Settings(UNSTRUCTURED), 0.5, "")[1])
    first = torch.relu(x @ new["0.0.weight"].T + model[0][0].bias)
    after = (first @ new["0.2.weight"].T + model[0][2].bias).detach()
    weight, hessian = model[1].weight.detach(), (after.T @ after)[None]
    assert torch.allclose(new["1.weight"], prune_matrices(weight[None], hessian, Settings(UNSTRUCTURED), 0.5, "")[1])


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_is_pruned_as_the_linear_layer_on_its_unfolded_inputs(groups: int):
    torch.manual_seed(0)
    conv, [(x, y)] = nn.Conv2d(8, 8, 3, padding=1, groups=groups).double(), batches((10, 8, 6, 6))
    mask, new = sparsegpt(conv, ("weight",), [(x.double(), y)], pattern=UNSTRUCTURED, sparsity={"weight": 0.5})
    pruned = nn.Conv2d(8, 8, 3, padding=1, groups=groups).double()
    pruned.load_state_dict({"weight": new["weight"], "bias": conv.bias})
    smallest = select({"weight": conv.weight.detach().abs()}, pattern=UNSTRUCTURED, sparsity=0.5).mask
    masked = nn.Conv2d(8, 8, 3, padding=1, groups=groups).double()
    masked.load_state_dict({"weight": conv.weight * smallest["weight"], "bias": conv.bias})
    truth = conv(x.double())
    ours, theirs = (float(((net(x.double()) - truth) ** 2).mean().detach()) for net in (pruned, masked))
    assert mask.sparsity == 0.5 and not bool(new["weight"][~mask["weight"]].any())
    assert ours < theirs


def test_a_pointwise_convolution_is_a_linear_layer():
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(8, 4, 1), nn.Linear(8, 4)
    conv.weight.data = linear.weight.data[..., None, None].clone()
    [(x, y)] = batches((5, 8, 3, 3))
    ours = sparsegpt(conv, ("weight",), [(x, y)], pattern=PAIRS, sparsity={})
    theirs = sparsegpt(linear, ("weight",), [(x.movedim(1, -1), y)], pattern=PAIRS, sparsity={})
    assert torch.equal(ours[0]["weight"].flatten(1), theirs[0]["weight"])
    assert torch.allclose(ours[1]["weight"].flatten(1), theirs[1]["weight"], atol=1e-6)


def test_two_of_four_are_consecutive_input_channels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))
    names = ("0.weight", "2.weight")
    mask, new = sparsegpt(model, names, batches((30, 8, 4, 4)), pattern=PAIRS, sparsity={}, blocksize=6)
    assert bool((mask["0.weight"].unflatten(1, (-1, 4)).sum(2) == 2).all())
    assert bool((mask["2.weight"].unflatten(1, (-1, 4)).sum(2) == 2).all())
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in new.values())


def test_a_transformers_conv1d_is_pruned_along_its_inputs():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    layer, linear = conv1d(4, 8), nn.Linear(8, 4)
    linear.weight.data = layer.weight.data.T.clone()
    data = batches((20, 3, 8))
    ours = sparsegpt(nn.Sequential(layer), ("0.weight",), data, pattern=PAIRS, sparsity={})
    theirs = sparsegpt(linear, ("weight",), data, pattern=PAIRS, sparsity={})
    assert torch.equal(ours[0]["0.weight"].T, theirs[0]["weight"])
    assert torch.allclose(ours[1]["0.weight"].T, theirs[1]["weight"], atol=1e-6)


def test_a_sparsity_of_zero_leaves_a_layer_dense():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4))  # 6 is no multiple of 4
    names = ("0.weight", "2.weight")
    mask, new = sparsegpt(model, names, batches((9, 6)), pattern=PAIRS, sparsity={"0.weight": 0.0})
    assert mask.layer_density == {"0.weight": 1.0, "2.weight": 0.5}
    assert torch.equal(new["0.weight"], model[0].weight.detach())


@pytest.mark.parametrize(
    ("pattern", "sparsity", "said"),
    [
        (UNSTRUCTURED, {}, "expected a sparsity of weight from 0 to below 1, got none"),
        (UNSTRUCTURED, {"weight": 1.0}, "from 0 to below 1, got 1.0"),
        (PAIRS, {"weight": 0.75}, "expected 0.5 for weight with pattern 2:4, got 0.75"),
        (PAIRS, {}, "weight: axis 1 has 6 weights, which is no multiple of 4; leave it dense"),
        (Pattern.parse("channel"), {"weight": 0.5}, "expected the pattern unstructured or n:m, got channel"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_runs(pattern: Pattern, sparsity: dict[str, float], said: str):
    with pytest.raises(UsageError, match=said):
        sparsegpt(nn.Linear(6, 2), ("weight",), batches((5, 6)), pattern=pattern, sparsity=sparsity)


def test_inputs_that_are_not_finite_name_the_layer():
    data = [(torch.full((3, 4), float("inf")), torch.zeros(3))]
    with pytest.raises(UsageError, match=r"finite inputs of weight"):
        sparsegpt(nn.Linear(4, 2), ("weight",), data, pattern=PAIRS, sparsity={})


def test_progress_counts_the_columns_of_all_layers_and_names_what_is_done():
    told: list[tuple[int, int, str]] = []
    names = ("0.weight", "2.weight")
    sparsegpt(
        two_layers(),
        names,
        [(inputs.double(), labels) for inputs, labels in batches((20, 8))],
        pattern=UNSTRUCTURED,
        sparsity=dict.fromkeys(names, 0.5),
        blocksize=5,
        progress=lambda *values: told.append(values),
    )
    assert {total for _, total, _ in told} == {8 + 12}
    assert [(done, note) for done, _, note in told] == [
        (0, "inputs of 0.weight"),
        (0, "inverse Hessian of 0.weight"),
        (5, "0.weight"),
        (8, "0.weight"),
        (8, "inputs of 2.weight"),
        (8, "inverse Hessian of 2.weight"),
        (13, "2.weight"),
        (18, "2.weight"),
        (20, "2.weight"),
    ]


def test_long_inputs_are_unfolded_in_parts_and_give_the_same(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    conv, data = nn.Conv2d(4, 4, 3).double(), [(inputs.double(), y) for inputs, y in batches((7, 4, 5, 5))]
    whole = sparsegpt(conv, ("weight",), data, pattern=PAIRS, sparsity={})
    monkeypatch.setattr(module, "_CHUNK", 2 * 4 * 5 * 5 * 9)
    parts = sparsegpt(conv, ("weight",), data, pattern=PAIRS, sparsity={})
    assert torch.equal(whole[0]["weight"], parts[0]["weight"])
    assert torch.allclose(whole[1]["weight"], parts[1]["weight"])
