from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cases import MemoryKeeper, same_bits, short_training, tiny_data, tiny_model
from sparsify.data.load import Data, Split
from sparsify.errors import DivergedError
from sparsify.train.loop import fit

NAN, INF = float("nan"), float("inf")
GENTLE = short_training("12it", optimizer={"name": "sgd", "lr": 0.01})


def fitted(model: nn.Module, data: Data | None = None, **values: object) -> None:
    fit(model, data or tiny_data(), GENTLE.model_copy(update=values), seed=0)


def with_pixel(split: Split, value: float) -> Split:
    images = split.images.clone()
    images[:, 0, 0, 0] = value
    return Split(images, split.labels)


def test_a_huge_learning_rate_names_the_step_and_the_first_layer():
    spec = short_training(optimizer={"name": "sgd", "lr": 1e20, "momentum": 0.9})
    with pytest.raises(DivergedError, match=r"training diverged at step \d+: expected .* finite") as raised:
        fit(tiny_model(), tiny_data(), spec, seed=0)
    assert "hidden" in str(raised.value)
    assert "lower train.optimizer.lr" in str(raised.value)
    assert raised.value.exit_code == 10


def test_weights_that_overflow_in_the_last_step_are_found_after_it():
    spec = short_training("1it", optimizer={"name": "sgd", "lr": 1e39})
    with pytest.raises(DivergedError, match=r"at step 1: expected finite weights, got nan or inf in hidden1\.weight"):
        fit(tiny_model(), tiny_data(), spec, seed=0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_training_images_that_are_not_finite_are_named(value: float):
    data = tiny_data()
    with pytest.raises(DivergedError, match=r"at step 0: expected a finite loss, .* first in the input images"):
        fitted(tiny_model(), replace(data, train=with_pixel(data.train, value)))


@pytest.mark.parametrize("value", [NAN, INF])
def test_validation_images_that_are_not_finite_are_named(value: float):
    data = tiny_data()
    with pytest.raises(DivergedError, match=r"at step 4: expected a finite validation loss, .* the input images"):
        fitted(tiny_model(), replace(data, validation=with_pixel(data.validation, value)))


@pytest.mark.parametrize("name", ["hidden1.weight", "hidden2.bias", "output.weight"])
def test_a_weight_that_is_not_finite_is_named(name: str):
    model = tiny_model()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = NAN
    with pytest.raises(DivergedError, match=rf"at step 0: expected finite weights, got nan or inf in {name};"):
        fitted(model)


@pytest.mark.parametrize("layer", ["hidden2", "output"])
def test_the_first_layer_whose_output_overflows_is_named(layer: str):
    model = tiny_model()
    with torch.no_grad():
        model.get_parameter(f"{layer}.bias").fill_(3e38)
        model.get_parameter(f"{layer}.weight").mul_(1e38)
    with pytest.raises(DivergedError, match=rf"at step 0: expected a finite loss, .* first in the output of {layer};"):
        fitted(model)


def test_a_loss_that_overflows_behind_finite_outputs_says_so():
    model = tiny_model()
    with torch.no_grad():
        model.get_parameter("output.bias").copy_(torch.tensor([3e38, -3e38, -3e38]))
    with pytest.raises(DivergedError, match=r"with every layer's output finite"):
        fitted(model)


def test_the_layer_that_overflows_on_validation_images_alone_is_named():
    data = tiny_data()
    huge = Split(data.validation.images.sign() * 3e38, data.validation.labels)
    with pytest.raises(DivergedError, match=r"finite validation loss, .* first in the output of hidden1;"):
        fitted(tiny_model(), replace(data, validation=huge))


def test_a_buffer_that_is_not_finite_is_named():
    data = tiny_data(shape=(1, 8, 8))
    model = tiny_model("resnet-20", data)
    model.get_buffer("stage2.0.bn1.running_mean")[0] = INF
    with pytest.raises(DivergedError, match=r"at step 4: .* in stage2\.0\.bn1\.running_mean"):
        fitted(model, data)


def test_what_was_kept_before_is_not_overwritten_and_a_resumed_training_diverges_alike():
    data, spec = tiny_data(), short_training("12it", optimizer={"name": "sgd", "lr": 0.1})
    keeper = MemoryKeeper(save_every=3)
    poisoned = replace(data, train=Split(data.train.images.clone(), data.train.labels))
    last = int(torch.randperm(80, generator=torch.Generator().manual_seed(0))[0])
    poisoned.train.images[last] = NAN
    with pytest.raises(DivergedError) as first:
        fit(tiny_model(), poisoned, spec, seed=0, keeper=keeper)
    if keeper.saved is not None:
        assert all(bool(torch.isfinite(tensor).all()) for tensor in keeper.saved[0].values())
    with pytest.raises(DivergedError) as again:
        fit(tiny_model(), poisoned, spec, seed=0, keeper=MemoryKeeper(saved=keeper.saved))
    assert str(first.value) == str(again.value)


def test_looking_for_the_layer_leaves_no_hooks_and_no_changed_weights():
    model, same = tiny_model(), tiny_model()
    data = tiny_data()
    with pytest.raises(DivergedError):
        fitted(model, replace(data, train=with_pixel(data.train, NAN)))
    assert all(not vars(module)["_forward_hooks"] for module in model.modules())
    assert same_bits(model.state_dict(), same.state_dict())
