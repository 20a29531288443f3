"""Recovery of a pruned network, whole: reconstructed, fine-tuned, recalibrated, each where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.data.load import Data
from sparsify.masks.mask import Mask
from sparsify.recipe.prune_spec import RecoverySpec
from sparsify.train.distill import Distillation
from sparsify.train.finetune import finetune
from sparsify.train.keeper import Keeper
from sparsify.train.mask_schedule import Masking
from sparsify.train.recalibrate import recalibrate
from sparsify.train.reconstruct import reconstruct
from sparsify.train.task import CLASSIFICATION, Task


def recover(
    model: nn.Module,
    data: Data,
    spec: RecoverySpec,
    *,
    mask: Mask,
    teacher: nn.Module,
    calibration: Sequence[tuple[Tensor, Tensor]],
    seed: int,
    task: Task = CLASSIFICATION,
    masking: Masking | None = None,
    keeper: Keeper | None = None,
) -> tuple[Mask, dict[str, Any]]:
    """Mend `model` in place; removed weights are zero before, all along and after.

    Args:
        model: the pruned network; the dense one where `masking` prunes it while it trains.
        data: what it is fine-tuned on, resident where `model` is.
        spec: which parts, and their constants.
        mask: what is kept; where `masking` moves it, what it begins from.
        teacher: the dense network.
        calibration: (inputs (B, ...), targets) that reconstruction and recalibration draw from.
        seed: seed of data order and augmentation.
        task: loss and metric.
        masking: a schedule that prunes during fine-tuning; None holds `mask`.
        keeper: checkpoints of fine-tuning.

    Returns:
        The mask at the end, and what was done: the history of fine-tuning, errors of reconstructed layers, names of
        recalibrated ones.
    """
    done: dict[str, Any] = {}
    inputs = torch.cat([inputs for inputs, _ in calibration]) if calibration else torch.empty(0)
    if spec.reconstruct is not None:
        part = inputs[: spec.reconstruct.examples].split(spec.reconstruct.batch_size)
        found = reconstruct(model, teacher, mask, part, spec.reconstruct)
        done["reconstructed"] = {name: {"before": error.before, "after": error.after} for name, error in found.items()}
    if spec.finetune is not None:
        trained = finetune(
            model,
            data,
            spec.finetune,
            seed=seed,
            mask=None if masking is not None else mask,
            masking=masking,
            distillation=None if spec.distill is None else Distillation(teacher, spec.distill),
            task=task,
            keeper=keeper,
        )
        mask = mask if trained.mask is None else trained.mask
        done |= trained.history.to_json()
    if spec.recalibrate is not None:
        part = inputs[: spec.recalibrate.examples]
        done["recalibrated"] = list(recalibrate(model, part.split(spec.recalibrate.batch_size)))
    return mask, done
