from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from cases import same_bits
from sparsify.recipe.spec import OptimizerSpec
from sparsify.train.optimizer import PlainSgd, build_optimizer, optimizer_tensors, restore_optimizer_

PLAIN_SGD: dict[str, Any] = {"name": "sgd", "lr": 0.1, "momentum": 0.0}
SPECS: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.1, "momentum": 0.5},
    {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"name": "adam", "lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-5, "weight_decay": 0.01},
    {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
]
ids = lambda spec: "-".join(map(str, spec.values()))  # noqa: E731


def made(values: dict[str, Any]) -> tuple[nn.Linear, torch.optim.Optimizer]:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(2, 3))
        layer.bias.zero_()
    return layer, build_optimizer(TypeAdapter(OptimizerSpec).validate_python(values), layer.parameters())


def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, x: float) -> None:
    optimizer.zero_grad()
    layer(torch.tensor([[x, 1.0, -x]])).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("values", SPECS, ids=ids)
def test_every_constant_of_the_spec_reaches_the_optimiser(values: dict[str, Any]):
    _, optimizer = made(values)
    expected = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[values["name"]]
    assert type(optimizer) is expected
    (group,) = optimizer.param_groups
    for key, value in values.items():
        if key != "name":
            assert group[key] == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("values", [PLAIN_SGD, *SPECS], ids=ids)
def test_a_restored_optimiser_goes_on_bit_for_bit(values: dict[str, Any]):
    layer, optimizer = made(values)
    for x in (0.1, 0.2, 0.3):
        step(layer, optimizer, x)
    kept = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    weights = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    step(layer, optimizer, 0.4)

    other, restored = made(values)
    other.load_state_dict(weights)
    restore_optimizer_(restored, kept)
    step(other, restored, 0.4)
    assert same_bits(layer.state_dict(), other.state_dict())
    assert same_bits(optimizer_tensors(optimizer), optimizer_tensors(restored))


@pytest.mark.parametrize("masked", [False, True])
def test_plain_sgd_takes_the_steps_of_torchs(masked: bool):
    torch.manual_seed(0)
    start, kept = torch.randn(40, 30), (torch.rand(40, 30) < 0.3).float()
    ours, theirs = nn.Parameter(start * kept if masked else start.clone()), nn.Parameter(start.clone())
    optimizer = build_optimizer(TypeAdapter(OptimizerSpec).validate_python(PLAIN_SGD), [ours])
    assert isinstance(optimizer, PlainSgd)
    reference = torch.optim.SGD([theirs], lr=0.1)
    if masked:
        optimizer.kept = {ours: kept}
        theirs.data.mul_(kept)
    for _ in range(5):
        gradient = torch.randn(40, 30)
        ours.grad, theirs.grad = gradient.clone(), gradient * kept if masked else gradient.clone()
        optimizer.step()
        reference.step()
    assert torch.equal(ours, theirs)
    assert not masked or torch.equal(ours == 0, kept == 0)


@pytest.mark.parametrize("also", [{"momentum": 0.9}, {"weight_decay": 0.01}, {"clipped": True}])
def test_plain_sgd_is_only_for_the_plainest(also: dict[str, Any]):
    clipped = also.pop("clipped", False)
    spec = TypeAdapter(OptimizerSpec).validate_python(PLAIN_SGD | also)
    assert type(build_optimizer(spec, [nn.Parameter(torch.ones(2))], clipped=clipped)) is torch.optim.SGD


def test_a_fresh_optimiser_has_nothing_to_keep():
    assert optimizer_tensors(made(SPECS[2])[1]) == {}
