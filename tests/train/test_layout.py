from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from cases import same_bits, short_training, tiny_data, tiny_model
from sparsify.data.load import Data
from sparsify.masks.mask import Mask
from sparsify.train.layout import fastest_layout
from sparsify.train.loop import fit
from sparsify.train.state import copy_state


def strided(model: nn.Module) -> bool:
    return all(parameter.is_contiguous() for parameter in model.parameters())


def doubled(data: Data) -> Data:
    train, validation = (replace(part, images=part.images.double()) for part in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


def test_convolutions_have_their_channels_last_inside_and_moments_with_them():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
    before = copy_state(model)
    model(torch.randn(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    weight = model[0].weight
    momentum = optimizer.state[weight]["momentum_buffer"].clone()
    model.load_state_dict(before)
    with pytest.raises(KeyboardInterrupt), fastest_layout(model, optimizer, None):
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()
        assert same_bits(before, model.state_dict())
        assert torch.equal(optimizer.state[weight]["momentum_buffer"], momentum)
        raise KeyboardInterrupt
    assert strided(model) and same_bits(before, model.state_dict())


def test_a_network_without_2d_convolutions_is_left_alone():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with fastest_layout(model, torch.optim.SGD(model.parameters(), 0.1), None):
        assert strided(model)


@pytest.mark.parametrize(("dtype", "moved"), [(None, True), (torch.bfloat16, False)], ids=["fp32", "bf16"])
def test_grouped_convolutions_are_moved_in_fp32_alone(dtype: torch.dtype | None, moved: bool):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=4))
    with fastest_layout(model, torch.optim.SGD(model.parameters(), 0.1), dtype):
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is moved


@pytest.mark.parametrize(
    ("convolution", "moved"),
    [
        (nn.Conv2d(3, 4, (3, 1)), False),
        (nn.Conv2d(3, 4, (1, 3)), True),
        (nn.Conv2d(4, 8, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, 3, stride=2), True),
        (nn.Conv2d(8, 8, 1, stride=2), True),
        (nn.ConvTranspose2d(8, 4, (3, 1)), False),
        (nn.ConvTranspose2d(8, 4, 1, stride=2), False),
        (nn.ConvTranspose2d(8, 4, 3, stride=2), True),
    ],
    ids=str,
)
def test_what_is_wrong_with_its_channels_last_keeps_the_network_as_it_is(convolution: nn.Module, moved: bool):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), convolution)
    with fastest_layout(model, torch.optim.SGD(model.parameters(), 0.1), None):
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is moved


def test_a_tall_convolution_trains_to_what_float64_does():
    """With channels last its outputs were wrong by 0.8 of the largest on processors with AVX-512."""
    data = tiny_data(train=32, validation=8, shape=(1, 190, 1))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 120, (28, 1)), nn.Conv2d(120, 32, (64, 1)), nn.AvgPool2d((100, 1)), nn.Flatten())
    exact = copy.deepcopy(model).double()
    loss = nn.functional.cross_entropy(exact(data.train.images.double()), data.train.labels)
    loss.backward()
    trained = fit(model, data, short_training("1it", optimizer={"name": "sgd", "lr": 0.1}, batch_size=32), seed=0)
    assert trained.history.train_loss[0] == pytest.approx(loss.item(), rel=1e-5)
    for before, after in zip(exact.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(after, (before - 0.1 * before.grad).float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_ends_where_a_plain_loop_in_the_usual_layout_does(optimizer: str):
    data = doubled(tiny_data(train=32, validation=8, shape=(1, 8, 8)))
    spec = short_training("6it", optimizer={"name": optimizer, "lr": 0.01}, batch_size=32)
    model, plain = tiny_model("resnet-20", data).double(), tiny_model("resnet-20", data).double()
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    stepper = kind(plain.parameters(), lr=0.01, **options)
    plain.train()
    for _ in range(6):  # every batch is all of the data, so that its order does not matter
        stepper.zero_grad()
        nn.functional.cross_entropy(plain(data.train.images), data.train.labels).backward()
        stepper.step()
    trained = fit(model, data, spec, seed=0, mask=Mask({}), snapshot_step=3)
    assert strided(model) and all(tensor.is_contiguous() for tensor in (trained.snapshot or {}).values())
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-9, atol=1e-11)
