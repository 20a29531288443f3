"""Recalibrated statistics beside the exact ones, written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cases import tiny_data, tiny_model
from sparsify.errors import UsageError
from sparsify.train.recalibrate import recalibrate

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [torch.randn(n, 3, 5, 5, generator=GENERATOR) * (1 + n) + n for n in (4, 8, 6)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 2, 1),
        nn.BatchNorm2d(2),
    )


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel over the batch and positions, the variance with n - 1."""
    flat = x.double().transpose(0, 1).flatten(1)
    mean = flat.sum(1) / flat.shape[1]
    return mean, ((flat - mean[:, None]) ** 2).sum(1) / (flat.shape[1] - 1)


def test_statistics_are_the_mean_of_the_batches_own():
    net = network()
    assert recalibrate(net, BATCHES) == ("1", "5")
    first, second = list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()
    for x in BATCHES:
        y = net[0](x)
        mean, variance = mean_and_variance(y)
        first.append((mean, variance))
        biased = variance * (y[:, 0].numel() - 1) / y[:, 0].numel()
        scaled = (y - mean.view(1, -1, 1, 1)) / (biased.view(1, -1, 1, 1) + 1e-5).sqrt()
        second.append(mean_and_variance(net[4](scaled.float().relu())))
    for norm, stats in ((net[1], first), (net[5], second)):
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        assert norm.running_mean.tolist() == pytest.approx(
            torch.stack([m for m, _ in stats]).mean(0).tolist(), rel=1e-4
        )
        assert norm.running_var.tolist() == pytest.approx(torch.stack([v for _, v in stats]).mean(0).tolist(), rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_weights_modes_momenta_and_random_state_stay(training: bool):
    net = network().train(training)
    weights = [parameter.clone() for parameter in net.parameters()]
    state = torch.get_rng_state()
    recalibrate(net, BATCHES)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    assert all(module.training is training for module in net.modules())
    assert [net[1].momentum, net[5].momentum] == [0.3, 0.1]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_once_more_changes_nothing():
    net = network()
    recalibrate(net, BATCHES)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    recalibrate(net, BATCHES)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())


def test_a_network_without_batch_norm_is_left_alone():
    assert recalibrate(tiny_model(), [tiny_data().train.images]) == ()
    untracked = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert recalibrate(untracked, BATCHES) == ()


@pytest.mark.parametrize(
    ("batches", "match"),
    [([], "expected calibration batches, got none"), ([torch.zeros(1, 3, 3, 3)], "several values, got one of 1")],
    ids=["none", "one value"],
)
def test_batches_that_say_nothing_are_refused_and_the_old_statistics_stay(batches: list[Tensor], match: str):
    net = network()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with pytest.raises(UsageError, match=match):
        recalibrate(net, batches)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert net.training and net[1].momentum == 0.3
