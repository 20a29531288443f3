"""Fine-tuning of a pruned network, by its spec."""

from __future__ import annotations

from torch import nn

from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.recipe.prune_spec import FinetuneSpec
from sparsify.recipe.spec import TrainSpec
from sparsify.recipe.step import Step
from sparsify.train.batches import steps_per_epoch
from sparsify.train.distill import Distillation
from sparsify.train.keeper import Keeper
from sparsify.train.loop import Trained, fit
from sparsify.train.mask_schedule import Masking
from sparsify.train.task import CLASSIFICATION, Task


def finetune(
    model: nn.Module,
    data: Data,
    spec: FinetuneSpec,
    *,
    seed: int,
    mask: Mask | None = None,
    masking: Masking | None = None,
    distillation: Distillation | None = None,
    task: Task = CLASSIFICATION,
    keeper: Keeper | None = None,
) -> Trained:
    """Train `model` in place under its mask; `fit` says what each argument is and what is raised."""
    whole, start_step = replayed(spec, steps_per_epoch(len(data.train), spec.batch_size))
    return fit(
        model,
        data,
        whole,
        seed=seed,
        mask=mask,
        start_step=start_step,
        keeper=keeper,
        task=task,
        distillation=distillation,
        masking=masking,
        early_stop=spec.early_stop,
    )


def replayed(spec: FinetuneSpec, per_epoch: int) -> tuple[TrainSpec, int]:
    """The training whose end is fine-tuning, and the step to enter it at.

    With learning-rate rewinding (Renda et al. 2020, arXiv 2003.02389) that is the last `steps` of a training of length
    `rewind`; without, a training of its own from step 0.

    Raises:
        UsageError: there is less to replay than `steps`.
    """
    if spec.rewind is None:
        return spec, 0
    total, steps = spec.rewind.iterations(per_epoch), spec.steps.iterations(per_epoch)
    if steps > total:
        raise UsageError(
            f"finetune.rewind: expected a training at least as long as steps, {spec.steps}, got {spec.rewind}, {total} "
            f"steps; lower steps, or leave rewind out"
        )
    return spec.model_copy(update={"steps": Step(total, "it")}), total - steps
