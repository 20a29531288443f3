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
from torch.nn import functional

from sparsify.data.load import Data, Split
from sparsify.errors import Preempted
from sparsify.masks.mask import Mask
from sparsify.recipe.spec import TrainSpec
from sparsify.seeds import derive_seed
from sparsify.train.batches import Batches
from sparsify.train.divergence import check_weights, diverged
from sparsify.train.evaluate import evaluate
from sparsify.train.history import History
from sparsify.train.keeper import Keeper, NoKeeper
from sparsify.train.optimizer import build_optimizer, optimizer_tensors, restore_optimizer_
from sparsify.train.precision import autocast_dtype
from sparsify.train.schedule import lr_factor


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
) -> Trained:
    """Train `model` in place from `start_step` to the last step of `spec`.

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

    Raises:
        DivergedError: the loss or a weight is not finite; step and layer are named.
        Preempted: the keeper asked to stop; what was done is saved.
    """
    run = _Run(model, data, spec, seed, mask, start_step, constant_lr, snapshot_step, keeper or NoKeeper())
    return run.to_end()


class _Run:
    """The state of one training between two step boundaries: all that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        spec: TrainSpec,
        seed: int,
        mask: Mask | None,
        start_step: int,
        constant_lr: float | None,
        snapshot_step: int | None,
        keeper: Keeper,
    ) -> None:
        self._device = next(model.parameters()).device
        self._model, self._spec, self._keeper, self._seed = model, spec, keeper, seed
        self._validation = _on(data.validation, self._device)
        self._batches = Batches(_on(data.train, self._device), spec.batch_size, spec.augment, seed)
        self._total = spec.steps.iterations(self._batches.per_epoch)
        self._eval_every = max(spec.eval_every.iterations(self._batches.per_epoch), 1)
        self._constant_lr, self._snapshot_step = constant_lr, snapshot_step
        self._optimizer = build_optimizer(spec.optimizer, model.parameters())
        self._masked = _masked_parameters(model, mask)
        self._autocast = autocast_dtype(spec.precision, self._device)
        self._draws = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
        self._step, self._loss_sum, self._loss_count = start_step, 0.0, 0
        self._history = History()
        self._snapshot: dict[str, Tensor] | None = None
        if mask is not None:
            mask.apply_(model)

    def to_end(self) -> Trained:
        self._resume()
        self._model.train()
        step_once = self._step_function()
        while self._step < self._total:
            if self._step == self._snapshot_step:
                self._snapshot = _copy(self._model)
            step_once()
            if self._step % self._eval_every == 0 or self._step == self._total:
                self._measure()
            if self._keeper.stopping():
                self._save()
                raise Preempted(f"stopped at step {self._step} of {self._total}")
            if self._keeper.due():
                self._save()
        if self._step == self._snapshot_step:
            self._snapshot = _copy(self._model)
        if not self._history.step:
            self._measure()
        return Trained(self._history, self._snapshot)

    def _step_function(self) -> Callable[[], None]:
        """One optimiser step as a closure: what does not change between steps is looked up once."""
        model, optimizer, batches, spec = self._model, self._optimizer, self._batches, self._spec
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        weights, masks = self._masked
        groups = optimizer.param_groups
        smoothing, clip = spec.label_smoothing, spec.gradient_clip
        context = (
            torch.autocast(self._device.type, self._autocast)
            if self._autocast is not None
            else contextlib.nullcontext()
        )

        def step_once() -> None:
            rate = self._learning_rate()
            for group in groups:
                group["lr"] = rate
            images, labels = batches(self._step)
            if self._draws:
                torch.manual_seed(derive_seed(self._seed, "dropout", self._step))
            with context:
                loss = functional.cross_entropy(model(images), labels, label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if masks:
                torch._foreach_mul_([weight.grad for weight in weights], masks)
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            value = loss.item()
            if not math.isfinite(value):
                raise diverged(model, images, self._step)
            optimizer.step()
            self._step += 1
            self._loss_sum += value
            self._loss_count += 1

        return step_once

    def _learning_rate(self) -> float:
        if self._constant_lr is not None:
            return self._constant_lr
        schedule, peak = self._spec.schedule, self._spec.optimizer.lr
        return peak * lr_factor(schedule, self._step, total=self._total, per_epoch=self._batches.per_epoch)

    def _measure(self) -> None:
        check_weights(self._model, self._step)
        score = evaluate(self._model, self._validation)
        history = self._history
        history.step.append(self._step)
        history.train_loss.append(self._loss_sum / max(self._loss_count, 1))
        history.validation_loss.append(score.loss)
        history.validation_accuracy.append(score.accuracy)
        self._loss_sum, self._loss_count = 0.0, 0
        self._keeper.progress(self._step, self._total, f"validation {score.accuracy:.4f}")

    def _save(self) -> None:
        tensors = {f"model/{name}": tensor for name, tensor in self._model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer_tensors(self._optimizer).items()}
        tensors |= {f"snapshot/{name}": tensor for name, tensor in (self._snapshot or {}).items()}
        history = self._history
        self._keeper.save(
            tensors,
            {
                "step": self._step,
                "loss_sum": self._loss_sum,
                "loss_count": self._loss_count,
                "history": [history.step, history.train_loss, history.validation_loss, history.validation_accuracy],
            },
        )

    def _resume(self) -> None:
        saved = self._keeper.load()
        if saved is None:
            return
        tensors, state = saved
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "snapshot": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        self._model.load_state_dict(parts["model"])
        restore_optimizer_(self._optimizer, parts["optimizer"])
        self._snapshot = parts["snapshot"] or None
        self._step, self._loss_sum, self._loss_count = state["step"], state["loss_sum"], state["loss_count"]
        self._history = History(*state["history"])


def _masked_parameters(model: nn.Module, mask: Mask | None) -> tuple[list[nn.Parameter], list[Tensor]]:
    """Parameters with something removed, and their masks in the parameters' dtype and device."""
    parameters = dict(model.named_parameters())
    names = [name for name, kept in mask.items() if not bool(kept.all())] if mask is not None else []
    weights = [parameters[name] for name in names]
    masks = [mask[name].to(weight) for name, weight in zip(names, weights, strict=True)] if mask is not None else []
    return weights, masks


def _on(split: Split, device: torch.device) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


