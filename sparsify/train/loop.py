"""The only training loop. Deterministic by seed; a mask, where given, holds exactly at every step.

A mask is kept by zeroing the gradients of removed weights. Those weights start at zero, so momentum and both moments
stay zero, weight decay of zero is zero, and the weight stays exactly zero under SGD, Adam and AdamW alike. That costs
one multiplication of the masked gradients a step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsify.data.load import Data, Split
from sparsify.errors import Preempted
from sparsify.masks.mask import Mask
from sparsify.recipe.spec import TrainSpec
from sparsify.seeds import derive_seed
from sparsify.train.batches import Batches
from sparsify.train.divergence import check_validation_loss, check_weights, diverged
from sparsify.train.evaluate import evaluate
from sparsify.train.history import History
from sparsify.train.keeper import Keeper, NoKeeper
from sparsify.train.optimizer import build_optimizer
from sparsify.train.precision import autocast_dtype
from sparsify.train.schedule import lr_factor
from sparsify.train.state import State
from sparsify.train.task import CLASSIFICATION, Task

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True)
class Trained:
    """What `fit` returns: the curve, and the state dict at `snapshot_step` where one was asked for."""

    history: History
    snapshot: dict[str, Tensor] | None


def fit(
    model: nn.Module,
    data: Data,
    spec: TrainSpec,
    *,
    seed: int,
    mask: Mask | None = None,
    start_step: int = 0,
    constant_lr: float | None = None,
    snapshot_step: int | None = None,
    keeper: Keeper | None = None,
    task: Task = CLASSIFICATION,
) -> Trained:
    """Train `model` in place from `start_step` to the last step of `spec`.

    Equal arguments give equal bits, also when the training is stopped at any step and begun again. Where the model has
    dropout, torch's global generator is reseeded at each step.

    Args:
        model: trained in place, on the device its parameters are on.
        data: train and validation are used, test is not.
        spec: steps, batch size, optimiser, schedule, augmentation and the rest.
        seed: of data order, augmentation and dropout.
        mask: weights to hold at zero; None trains all.
        start_step: step of the schedule and of the data order to enter at (weight rewinding).
        constant_lr: learning rate to hold instead of the schedule (fine-tuning).
        snapshot_step: step before which the state dict is copied for the caller (the rewind point).
        keeper: checkpoints and the wish to stop; None for neither.
        task: the loss to train by and the metric the history holds.

    Raises:
        DivergedError: a loss or a weight is not finite; step and layer are named.
        Preempted: the keeper asked to stop; what was done is saved.
        UsageError: the mask is another network's.
    """
    keeper = keeper or NoKeeper()
    device = next(model.parameters()).device
    validation = _on(data.validation, device)
    batches = Batches(_on(data.train, device), spec.batch_size, spec.augment, seed)
    total = spec.steps.iterations(batches.per_epoch)
    measured_every = max(spec.eval_every.iterations(batches.per_epoch), 1)
    optimizer = build_optimizer(spec.optimizer, model.parameters())
    if mask is not None:
        mask.apply_(model)
    rate = _learning_rate(spec, total, batches.per_epoch, constant_lr)
    train_step = _train_step(model, optimizer, batches, spec, task, rate, mask, seed)

    def measure() -> None:
        _measure(state, model, validation, task)

    state = State(start_step, history=History(validation_images=len(validation.labels)))
    state.resume_(keeper, model, optimizer)
    model.train()
    while state.step < total:
        if state.step == snapshot_step:
            state.snapshot = _copy(model)
        state.loss_sum += train_step(state.step)
        state.loss_count += 1
        state.step += 1
        if state.step % measured_every == 0 or state.step == total:
            measure()
        keeper.progress(state.step, total, _note(state))
        if keeper.stopping():
            state.save(keeper, model, optimizer)
            raise Preempted(f"stopped at step {state.step} of {total}")
        if keeper.due():
            state.save(keeper, model, optimizer)
    if state.step == snapshot_step:
        state.snapshot = _copy(model)
    if not state.history.step:
        measure()
    return Trained(state.history, state.snapshot)


def _note(state: State) -> str:
    """What people are told beside the step."""
    accuracy = state.history.validation_accuracy
    return f"validation {accuracy[-1]:.4f}" if accuracy else ""


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    spec: TrainSpec,
    task: Task,
    rate: Callable[[int], float],
    mask: Mask | None,
    seed: int,
) -> Callable[[int], float]:
    """One optimiser step as a function of the step, returning the loss: what stays the same is looked up once."""
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    zero_removed_gradients = _zero_removed_gradients(model, mask)
    draws = any(isinstance(module, _DROPOUTS) and module.p > 0 for module in model.modules())
    smoothing = spec.label_smoothing
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
            loss = task.loss(model(images), labels, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        zero_removed_gradients()
        if spec.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, spec.gradient_clip)
        value = loss.item()
        if not math.isfinite(value):
            raise diverged(model, images, step)
        optimizer.step()
        return value

    return train_step


def _zero_removed_gradients(model: nn.Module, mask: Mask | None) -> Callable[[], None]:
    """A function that zeroes, in place, the gradients of the weights that `mask` removes; whole layers cost nothing."""
    parameters = dict(model.named_parameters())
    pruned = {name: kept for name, kept in (mask or {}).items() if not bool(kept.all())}
    pairs = [(parameters[name], kept.to(parameters[name])) for name, kept in pruned.items()]

    def zero() -> None:
        for weight, kept in pairs:
            if weight.grad is not None:
                weight.grad.mul_(kept)

    return zero


def _learning_rate(spec: TrainSpec, total: int, per_epoch: int, constant_lr: float | None) -> Callable[[int], float]:
    if constant_lr is not None:
        return lambda step: constant_lr
    return lambda step: spec.optimizer.lr * lr_factor(spec.schedule, step, total=total, per_epoch=per_epoch)


def _measure(state: State, model: nn.Module, validation: Split, task: Task) -> None:
    """Append one row to the history and begin to average the training loss anew."""
    check_weights(model, state.step)
    score = evaluate(model, validation, task=task)
    check_validation_loss(score.loss, model, validation.images, state.step)
    history = state.history
    history.step.append(state.step)
    history.train_loss.append(state.loss_sum / max(state.loss_count, 1))
    history.validation_loss.append(score.loss)
    history.validation_accuracy.append(score.value)
    state.loss_sum, state.loss_count = 0.0, 0


def _on(split: Split, device: torch.device) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
