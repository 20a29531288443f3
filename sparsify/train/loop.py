"""The only training loop. Deterministic by seed; a mask, where given, holds exactly at every step (`held_mask.py`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sparsify.data.load import Data, Split
from sparsify.errors import Preempted
from sparsify.masks.mask import Mask
from sparsify.recipe.prune_spec import EarlyStopSpec
from sparsify.recipe.spec import TrainSpec
from sparsify.train.batches import Batches
from sparsify.train.distill import Distillation, distilled
from sparsify.train.divergence import check_validation_loss, check_weights
from sparsify.train.early_stop import EarlyStop
from sparsify.train.evaluate import evaluate
from sparsify.train.held_mask import HeldMask, MovingMask
from sparsify.train.history import History
from sparsify.train.keeper import Keeper, NoKeeper
from sparsify.train.layout import fastest_layout
from sparsify.train.mask_moves import Span, check_moves
from sparsify.train.mask_schedule import Masking
from sparsify.train.objective import Objective, plain
from sparsify.train.optimizer import build_optimizer
from sparsify.train.precision import autocast_dtype, settled
from sparsify.train.schedule import lr_factor
from sparsify.train.state import State, copy_state
from sparsify.train.task import CLASSIFICATION, Task
from sparsify.train.train_step import build_train_step


@dataclass(frozen=True)
class Trained:
    """What `fit` returns beside the trained model.

    Attributes:
        history: the curve.
        snapshot: the state dict at `snapshot_step`, where one was asked for.
        mask: what was held at the end; None where nothing was.
        kept_step: step whose weights the model now has: the last one, or the best where `early_stop` was given.
    """

    history: History
    snapshot: dict[str, Tensor] | None
    mask: Mask | None
    kept_step: int


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
    distillation: Distillation | None = None,
    masking: Masking | None = None,
    early_stop: EarlyStopSpec | None = None,
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
        distillation: another network to imitate beside the task; None for the task alone.
        masking: moves the mask, from `mask` or from dense; at the end it has exactly the counts that were asked for.
        early_stop: when to stop before the end, keeping the best weights; None keeps the last.

    Raises:
        DivergedError: a loss or a weight is not finite; step and layer are named.
        Preempted: the keeper asked to stop; what was done is saved.
        UsageError: the mask is another network's, or the training too short for the mask's schedule.
    """
    keeper = keeper or NoKeeper()
    device = next(model.parameters()).device
    validation = data.validation.to(device)
    batches = Batches(data.train.to(device), spec.batch_size, spec.augment, seed)
    total = spec.steps.iterations(batches.per_epoch)
    measured_every = max(spec.eval_every.iterations(batches.per_epoch), 1)
    moves = {}
    if masking is not None:
        span = Span(start_step, total, batches.per_epoch, masking.removal.target)
        moves = check_moves(masking.schedule(span), span)
    optimizer = build_optimizer(spec.optimizer, model.parameters(), clipped=spec.gradient_clip is not None)
    if masking is None:
        held = HeldMask(model, optimizer, mask)
    else:
        held = MovingMask(model, optimizer, mask, masking, moves, seed)
    stop = None if early_stop is None else EarlyStop(early_stop, settled=max(moves, default=-1))
    rate = _learning_rate(spec, total, batches.per_epoch, constant_lr)

    precision = settled(spec.precision, device, model)
    state = State(start_step, history=History(validation_images=len(validation.labels), precision=precision))
    state.resume_(keeper, model, optimizer)
    spec = spec.model_copy(update={"precision": state.history.precision})  # a resumed training stays what it was
    moving = held if isinstance(held, MovingMask) else None
    if moving is not None and state.mask is not None:
        moving.hold(state.mask)

    def measure() -> None:
        _measure(state, model, validation, task)
        state.stopped = stop is not None and stop.note(state, model)

    def save() -> None:
        state.mask = None if moving is None else moving.mask
        state.save(keeper, model, optimizer)

    layout = fastest_layout(model, optimizer, autocast_dtype(spec.precision, device, model))
    with layout, _objective(model, task, spec, distillation) as objective:
        train_step = build_train_step(model, optimizer, batches, spec, objective, rate, held.after_backward, seed)
        model.train()
        while state.step < total and not state.stopped:
            if state.step == snapshot_step:
                state.snapshot = copy_state(model)
            if moving is not None:
                moving.before(state.step)
            state.loss_sum += train_step(state.step)
            state.loss_count += 1
            state.step += 1
            if state.step % measured_every == 0 or state.step == total:
                measure()
            keeper.progress(state.step, total, _note(state))
            if keeper.stopping():
                save()
                raise Preempted(f"stopped at step {state.step} of {total}")
            if keeper.due():
                save()
    if state.step == snapshot_step:
        state.snapshot = copy_state(model)
    if not state.history.step:
        measure()
    if state.best is not None:
        model.load_state_dict(state.best)
    holds = mask is not None or masking is not None
    kept_step = state.step if state.best_step is None else state.best_step
    return Trained(state.history, state.snapshot, held.mask if holds else None, kept_step)


def _note(state: State) -> str:
    """What people are told beside the step."""
    accuracy = state.history.validation_accuracy
    return f"validation {accuracy[-1]:.4f}" if accuracy else ""


def _objective(
    model: nn.Module, task: Task, spec: TrainSpec, distillation: Distillation | None
) -> contextlib.AbstractContextManager[Objective]:
    if distillation is None:
        return contextlib.nullcontext(plain(model, task, spec.label_smoothing))
    return distilled(model, distillation, task, spec.label_smoothing)


def _learning_rate(spec: TrainSpec, total: int, per_epoch: int, constant_lr: float | None) -> Callable[[int], float]:
    if constant_lr is not None:
        return lambda step: constant_lr
    return lambda step: spec.optimizer.lr * lr_factor(spec.schedule, step, total=total, per_epoch=per_epoch)


def _measure(state: State, model: nn.Module, validation: Split, task: Task) -> None:
    """Append one row to the history and begin to average the training loss anew."""
    check_weights(model, state.step)
    score = evaluate(model, validation, task=task)
    check_validation_loss(score.loss, model, validation, state.step)
    history = state.history
    history.step.append(state.step)
    history.train_loss.append(state.loss_sum / max(state.loss_count, 1))
    history.validation_loss.append(score.loss)
    history.validation_accuracy.append(score.value)
    state.loss_sum, state.loss_count = 0.0, 0
