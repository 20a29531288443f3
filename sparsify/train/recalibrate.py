"""BatchNorm recalibration: pruning shifts activations, and the running statistics are estimated again.

The exact mean over calibration batches takes the place of the moving average (Wu & Johnson 2021, arXiv 2105.07576,
section 3, "PreciseBN", in its simplest form: the average over batches of each batch's mean and unbiased variance).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from sparsify.errors import UsageError


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> tuple[str, ...]:
    """Estimate the running mean and variance of every BatchNorm again, in place, and return the modules' names.

    All else is in eval mode meanwhile, so that nothing is drawn; modes and momenta are put back. Each BatchNorm sees
    activations that those before it normalised by the batch. No weight changes. Without a BatchNorm that keeps
    statistics nothing is done and the names are empty.

    Args:
        model: takes the batches as they are, on its device.
        batches: inputs (N, ...); each has the same weight in the average.

    Raises:
        UsageError: there is no batch, or one gives a BatchNorm a single value per channel.
    """
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not norms:
        return ()
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms.values()}
    before = {norm: [buffer.clone() for buffer in norm.buffers()] for norm in norms.values()}
    try:
        _average(model.eval(), list(norms.values()), batches)
    except BaseException:
        for norm, buffers in before.items():
            for buffer, old in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(old)
        raise
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    return tuple(norms)


def _average(model: nn.Module, norms: list[_BatchNorm], batches: Iterable[Tensor]) -> None:
    """Cumulative averages over the batches."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the cumulative average
        norm.train()
    seen = 0
    for images in batches:
        try:
            model(images)
        except ValueError as error:
            raise UsageError(
                f"recalibrate: expected batches that give each channel several values, got one of {len(images)} "
                f"({error}); take larger batches, and leave out the last, incomplete one"
            ) from None
        seen += 1
    if not seen:
        raise UsageError("recalibrate: expected calibration batches, got none; name data, or leave recalibrate out")
