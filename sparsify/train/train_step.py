"""One optimiser step as a function of the step: what stays the same is looked up once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import nn

from sparsify.recipe.spec import TrainSpec
from sparsify.seeds import derive_seed
from sparsify.train.batches import Batches
from sparsify.train.divergence import diverged
from sparsify.train.objective import Objective
from sparsify.train.precision import autocast_dtype

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def build_train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    spec: TrainSpec,
    objective: Objective,
    rate: Callable[[int], float],
    after_backward: Callable[[int], None],
    seed: int,
) -> Callable[[int], float]:
    """The step, returning its loss.

    Args:
        model: trained in place.
        optimizer: over its parameters.
        batches: by step.
        spec: gradient clipping and precision are read.
        objective: of a batch's images and labels, a scalar.
        rate: learning rate by step.
        after_backward: called with the step once the gradients are there, before they are clipped; holds the mask.
        seed: of dropout.
    """
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    draws = any(isinstance(module, _DROPOUTS) and module.p > 0 for module in model.modules())
    dtype = autocast_dtype(spec.precision, device, model)
    precision = contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    def train_step(step: int) -> float:
        lr = rate(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        images, labels = batches(step)
        if draws:
            torch.manual_seed(derive_seed(seed, "dropout", step))
        with precision:
            loss = objective(images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        after_backward(step)
        if spec.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, spec.gradient_clip)
        value = loss.item()
        if not math.isfinite(value):
            raise diverged(model, images, step)
        optimizer.step()
        return value

    return train_step
