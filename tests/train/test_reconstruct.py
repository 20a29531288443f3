"""Reconstruction beside numpy's least squares on the layers' own inputs, gathered by running the layers by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cases import random_mask, same_bits, tiny_data, tiny_model
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.recipe.prune_spec import ReconstructSpec
from sparsify.train.reconstruct import reconstruct

UNDAMPED = ReconstructSpec(damping=0)


def lstsq(x: Tensor, y: Tensor, kept: Tensor) -> Tensor:
    """Each row of w, b with its masked columns: y ≈ x w^T + b; (rows, columns + 1), the bias last."""
    x1 = np.hstack([x.numpy(), np.ones((len(x), 1))])
    rows = []
    for row in range(y.shape[1]):
        s = np.append(kept[row].numpy(), True)
        full = np.zeros(x1.shape[1])
        full[s] = np.linalg.lstsq(x1[:, s], y[:, row].numpy())[0]
        rows.append(full)
    return torch.from_numpy(np.array(rows))


@pytest.mark.parametrize("in_place", [False, True])
def test_two_linear_layers_in_turn_the_second_on_what_the_first_now_gives(in_place: bool):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.ReLU(in_place), nn.Linear(6, 3))).double()  # one block
    model, x = copy.deepcopy(dense), torch.randn(200, 6).double()
    mask = random_mask(model, density=0.5)
    errors = reconstruct(model, dense, mask, list(x.split(64)), UNDAMPED)
    with torch.no_grad():
        first = lstsq(x, functional.linear(x, *dense.get_submodule("0.0").parameters()), mask["0.0.weight"])
        given = functional.relu(x @ first[:, :-1].T + first[:, -1])
        second = lstsq(given, dense(x), mask["0.2.weight"])
    for name, expected in (("0.0", first), ("0.2", second)):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        assert torch.allclose(layer.weight, expected[:, :-1]) and torch.allclose(layer.bias, expected[:, -1])
    assert all(torch.count_nonzero(model.get_parameter(n)[~kept]) == 0 for n, kept in mask.items())
    with torch.no_grad():
        left = ((dense(x) - model(x)) ** 2).sum() / (dense(x) ** 2).sum()
    assert errors["0.2.weight"].after == pytest.approx(float(left))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    "how", [{"stride": 2, "padding": 1}, {"dilation": 2}, {"padding": 1, "padding_mode": "circular"}]
)
def test_convolutions_by_unfolding_each_group(groups: int, how: dict[str, Any]):
    torch.manual_seed(1)
    dense = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups, **how)).double()
    model, x = copy.deepcopy(dense), torch.randn(40, 4, 8, 8).double()
    mask = random_mask(model, density=0.4)
    reconstruct(model, dense, mask, [x], UNDAMPED)
    padded = functional.pad(x, (1,) * 4, mode="circular") if "padding_mode" in how else x
    unfolding = {key: value for key, value in how.items() if key != "padding_mode" and padded is x}
    patches = functional.unfold(padded, 3, **unfolding).view(40, groups, 4 // groups * 9, -1)
    y = dense(x).detach().flatten(2).unflatten(1, (groups, 8 // groups))
    kept = mask["0.weight"].reshape(groups, 8 // groups, -1)
    weight, bias = model[0].weight.reshape(groups, 8 // groups, -1), model[0].bias.view(groups, -1)
    for g in range(groups):
        columns = patches[:, g].transpose(1, 2).flatten(0, 1)
        expected = lstsq(columns, y[:, g].transpose(1, 2).flatten(0, 1), kept[g])
        assert torch.allclose(weight[g], expected[:, :-1]) and torch.allclose(bias[g], expected[:, -1])


def test_without_the_bias_what_stays_is_taken_off_the_target():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(5, 4)).double()
    model, x = copy.deepcopy(dense), torch.randn(50, 5).double()
    mask = random_mask(model, density=0.6)
    reconstruct(model, dense, mask, [x], ReconstructSpec(damping=0, bias=False))
    assert torch.equal(model[0].bias, dense[0].bias)
    for row, kept in enumerate(mask["0.weight"].numpy()):
        target = (x @ dense[0].weight[row]).detach().numpy()
        found = np.linalg.lstsq(x.numpy()[:, kept], target)[0]
        assert model[0].weight[row].detach().numpy()[kept] == pytest.approx(found)


def test_nothing_removed_and_nothing_shifted_stays_where_it_is():
    data = tiny_data(shape=(1, 8, 8))
    dense = tiny_model("resnet-20", data)
    model = copy.deepcopy(dense)
    reconstruct(model, dense, random_mask(model, density=2.0), [data.train.images], ReconstructSpec())
    theirs = dense.state_dict()
    assert all(torch.allclose(t, theirs[n], atol=1e-6) for n, t in model.state_dict().items())


@pytest.mark.parametrize("name", ["resnet-20", "mlp:64-12-8-3"])
def test_real_networks_come_nearer_to_dense_and_dense_is_left_as_it_was(name: str):
    data = tiny_data(train=64, shape=(1, 8, 8))
    dense = tiny_model(name, data)
    before = copy.deepcopy(dense.state_dict())
    masked, model = copy.deepcopy(dense), copy.deepcopy(dense)
    mask = random_mask(model, density=0.6)
    mask.apply_(masked)
    errors = reconstruct(model, dense, mask, list(data.train.images.split(32)), ReconstructSpec())
    assert same_bits(dense.state_dict(), before)
    assert set(errors) == set(mask)
    assert all(error.after <= error.before + 1e-6 for error in errors.values())
    assert all(torch.count_nonzero(model.get_parameter(n)[~kept]) == 0 for n, kept in mask.items())
    with torch.no_grad():
        x = data.train.images
        gap = {net: float(((net.eval()(x) - dense.eval()(x)) ** 2).mean()) for net in (masked, model)}
    assert gap[model] < 0.5 * gap[masked]


def test_a_model_that_is_its_own_dense_network_and_no_inputs_are_refused():
    model = tiny_model()
    with pytest.raises(UsageError, match="expected a dense network apart from the model"):
        reconstruct(model, model, random_mask(model), [tiny_data().train.images], UNDAMPED)
    with pytest.raises(UsageError, match="expected calibration inputs, got none"):
        reconstruct(model, tiny_model(), Mask.dense(model, ("output.weight",)), [], UNDAMPED)
