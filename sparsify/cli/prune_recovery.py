"""How `sparsify prune` recovers, as its options say it: what a recipe would have, and what that is in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsify.errors import UsageError

if TYPE_CHECKING:
    from sparsify.recipe.prune_recipe import PruneRecipe

# What transformers are commonly fine-tuned by: small steps of AdamW, a warm-up and clipped gradients.
_ADAMW = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01}
_WARM_UP, _CLIP = 50, 1.0


def recovery(
    model: str, length: str, *, lr: float | None, batch_size: int | None, schedule: str | None
) -> dict[str, Any]:
    """`recovery` of the recipe: fine-tuning and distillation, or nothing.

    Args:
        model: the source; transformers have an optimiser of their own, others the recipe's default.
        length: `3ep`, `500it` or `none`.
        lr: the learning rate at its peak; None for the optimiser's default.
        batch_size: examples a step; None for the recipe's default.
        schedule: how the learning rate moves; None for the recipe's default.

    Raises:
        UsageError: an option that nothing would hear, beside `none`.
    """
    given = {"--lr": lr, "--batch-size": batch_size, "--schedule": schedule}
    if length == "none":
        if unheard := [option for option, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(unheard)}: expected fine-tuning that hears it, got --recover none")
        return {}
    tuned: dict[str, Any] = {"steps": length}
    if _is_transformer(model):
        tuned |= {"optimizer": dict(_ADAMW), "gradient_clip": _CLIP}
        tuned["schedule"] = {"name": "cosine", "warmup": _warm_up(length)}
    if lr is not None:
        tuned["optimizer"] = tuned.get("optimizer", _default_optimizer()) | {"lr": lr}
    if schedule is not None:
        tuned["schedule"] = tuned.get("schedule", {}) | {"name": schedule}
    if batch_size is not None:
        tuned["batch_size"] = batch_size
    return {"finetune": tuned, "distill": {}}


def recovery_in_words(recipe: PruneRecipe) -> str:
    """What fine-tuning will be, and where that comes from; empty where there is none."""
    spec = recipe.recovery.finetune
    if spec is None:
        return ""
    warm_up = f" after {spec.schedule.warmup} of warm-up" if spec.schedule.warmup.count else ""
    clip = f", gradients clipped at {spec.gradient_clip:g}" if spec.gradient_clip is not None else ""
    why = f" ({recipe.trained.model} is a transformer)" if _is_transformer(recipe.trained.model) else ""
    return (
        f"recovery: {spec.steps} of {spec.optimizer.name}, learning rate {spec.optimizer.lr:g} {spec.schedule.name}"
        f"{warm_up}{clip}, {spec.batch_size} examples a step{why}; "
        "change it by --recover, --lr, --batch-size, --schedule"
    )


def _is_transformer(model: str) -> bool:
    from sparsify.models.families import is_transformer

    return is_transformer(model)


def _default_optimizer() -> dict[str, Any]:
    from sparsify.recipe.prune_spec import FinetuneSpec

    return FinetuneSpec().optimizer.model_dump(mode="json")


def _warm_up(length: str) -> str:
    """A tenth of the iterations; of epochs, whose length is not known here, one in ten or a few steps."""
    from sparsify.recipe.step import Step

    try:
        steps = Step.parse(length)
    except ValueError:
        return f"{_WARM_UP}it"  # the recipe refuses the length, by its option
    if steps.unit == "it":
        return f"{steps.count // 10}it"
    return f"{steps.count // 10}ep" if steps.count >= 10 else f"{_WARM_UP}it"
