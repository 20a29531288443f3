from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cases import tiny_data, tiny_model
from sparsify.data.load import Split
from sparsify.train.evaluate import evaluate, fitting_batch_size


def naively(model: nn.Module, split: Split) -> tuple[float, float]:
    """One image at a time, in eval mode, the loss written out."""
    losses, right = [], 0
    for image, label in zip(split.images, split.labels, strict=True):
        logits = model(image[None])[0].double().tolist()
        losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[label])
        right += max(range(len(logits)), key=lambda k: logits[k]) == label
    return math.fsum(losses) / len(losses), right / len(losses)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 1000])
@pytest.mark.parametrize("name", ["mlp:36-12-8-3", "resnet-20", "mobilenet-v2"])
def test_agrees_with_one_image_at_a_time(name: str, batch_size: int):
    data = tiny_data(validation=23, shape=(1, 8, 8) if "mlp" not in name else (1, 6, 6))
    model = tiny_model(name, data)
    score = evaluate(model, data.validation, batch_size)
    with torch.no_grad():
        loss, accuracy = naively(model.eval(), data.validation)
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert score.accuracy == accuracy


def test_what_has_no_parameters_is_evaluated_too():
    data = tiny_data(validation=9, shape=(1, 2, 2))
    score = evaluate(nn.Flatten(), data.validation, 4)
    loss, accuracy = naively(nn.Flatten(), data.validation)
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert score.accuracy == accuracy


def test_leaves_mode_weights_buffers_and_random_state_as_they_were():
    data = tiny_data(shape=(1, 8, 8))
    model = tiny_model("mobilenet-v2", data)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    for training in (True, False):
        evaluate(model.train(training), data.validation)
        assert model.training is training
        assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("shape", "dtype", "examples"),
    [
        ((1, 28, 28), torch.float32, 1000),
        ((3, 32, 32), torch.float32, 1000),
        ((3, 96, 96), torch.float32, 151),
        ((3, 512, 512), torch.float32, 16),
        ((2, 128), torch.int64, 256),
    ],
)
def test_large_examples_go_in_smaller_batches(shape: tuple[int, ...], dtype: torch.dtype, examples: int):
    assert fitting_batch_size(torch.zeros(3, *shape, dtype=dtype)) == examples
