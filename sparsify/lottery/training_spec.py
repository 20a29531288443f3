"""`TrainingSpec`: all that determines one training of the ticket search. Torch-free; hashed into the stage's key."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsify.recipe.misfit import Misfit, shown
from sparsify.recipe.spec import DataSpec, Recipe, Spec, TrainSpec
from sparsify.recipe.step import Step
from sparsify.seeds import derive_seed


class PruneSlice(Spec):
    """The part of `prune` that one level depends on."""

    prune_fraction: float = Field(description="Share of the remaining weights removed.")
    overrides: dict[str, float] = Field(description="Prune fraction by parameter name.")
    scope: Literal["global", "per-layer"] = Field(description="Where weights compete.")
    criterion: str = Field(description="What scores a weight.")
    pattern: str = Field(description="Which sets of weights may be removed.")


class TrainingSpec(Spec):
    """One training: the dense network (level 0), a level, or a control at a level."""

    model: str = Field(description="The model's name.")
    data: DataSpec = Field(description="The data.")
    data_fingerprint: str = Field(description="SHA-256 that identifies the data's content and split.")
    train: TrainSpec = Field(description="How it is trained.")
    rewind: Step | Literal["learning-rate", "none"] = Field(description="What survivors are rewound to.")
    device: str = Field(description="Kind of device it is trained on.")
    replicate: int = Field(description="Replicate.")
    init_seed: int = Field(description="Seed of the initial weights.")
    order_seed: int = Field(description="Seed of data order, augmentation and dropout.")
    level: int = Field(default=0, description="Pruning level; 0 is dense.")
    prune: PruneSlice | None = Field(default=None, description="How the level is pruned; none for dense.")
    control: Literal["reinit", "shuffled-mask", "random-mask", "one-shot"] | None = Field(
        default=None, description="The control this is; none for the ticket itself."
    )
    control_seed: int | None = Field(default=None, description="Seed of the control's own draws.")

    @model_validator(mode="after")
    def _parts_fit_together(self) -> TrainingSpec:
        """Dense is neither pruned nor a control; every level is pruned; every control has a seed."""
        if (self.prune is None) != (self.level == 0):
            got = f"level {self.level} with {shown(self.prune)}"
            raise Misfit(("prune",), expected="a rule from level 1 on", got=got, mend="give prune from level 1 on")
        if (self.control is None) != (self.control_seed is None) or (self.control and self.level == 0):
            got = f"control {self.control} at level {self.level} with seed {self.control_seed}"
            mend = "give control and control_seed together, from level 1 on"
            raise Misfit(("control",), expected="a control with its seed, or neither", got=got, mend=mend)
        return self


def training_spec(
    recipe: Recipe, *, fingerprint: str, device: str, replicate: int, level: int = 0, control: str | None = None
) -> TrainingSpec:
    """The spec of one training of `recipe`."""
    prune = recipe.prune
    values = {
        "model": recipe.model,
        "data": recipe.data,
        "data_fingerprint": fingerprint,
        "train": recipe.train,
        "rewind": prune.rewind,
        "device": device,
        "replicate": replicate,
        "init_seed": derive_seed(recipe.seed, "replicate", replicate, "init"),
        "order_seed": derive_seed(recipe.seed, "replicate", replicate, "order"),
        "level": level,
        "prune": PruneSlice.model_validate({name: getattr(prune, name) for name in PruneSlice.model_fields})
        if level
        else None,
        "control": control,
        "control_seed": derive_seed(recipe.seed, "replicate", replicate, control, level) if control else None,
    }
    return TrainingSpec.model_validate(values)
