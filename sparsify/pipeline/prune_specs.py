"""What determines each stage of `sparsify prune`. Torch-free; hashed into the stages' keys."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsify.recipe.prune_recipe import RemovalSpec
from sparsify.recipe.prune_spec import RecoverySpec
from sparsify.recipe.spec import DataSpec, Spec


class SourceSpec(Spec):
    """The trained network as it was given."""

    model: str = Field(description="Its source.")
    weights: str | None = Field(description="File of its weights, for the record; none where the source has them.")
    content: str = Field(description="SHA-256 of what the weights are read from.")
    allow_import: tuple[str, ...] = Field(description="Packages whose code may be imported.")
    data: DataSpec = Field(description="The data it is scored on.")
    data_fingerprint: str = Field(description="SHA-256 that identifies the data's content and split.")
    task: str = Field(description="What it does.")
    device: str = Field(description="Kind of device it runs on.")
    seed: int = Field(description="Seed of what the weights' file leaves open; nothing, as a rule.")


class PruneStageSpec(Spec):
    """One removal, without recovery."""

    removal: RemovalSpec = Field(description="What is removed.")
    sparsity: float | None = Field(description="Fraction of prunable weights to remove.")
    macs: float | None = Field(description="Fraction of the multiplications that may remain.")
    or_most: Literal[True] | None = Field(description="Whether the most that can go will do, where that is less.")
    seed: int = Field(description="Seed of the calibration examples and of random scores.")
    source: SourceSpec = Field(description="The trained network.")
    trains: Literal[True] | None = Field(
        default=None, description="Of preflight: whether the recovery will train, so that the network has to bear it."
    )


class RecoverStageSpec(Spec):
    """What makes the loss good."""

    recovery: RecoverySpec = Field(description="How.")
    removal: RemovalSpec = Field(description="What was removed, for schedules that remove while they train.")
    sparsity: float | None = Field(description="Fraction of prunable weights to remove.")
    calibration: int = Field(description="Training examples that recalibration and reconstruction see.")
    seed: int = Field(description="Seed of data order, augmentation and calibration.")
    source: SourceSpec = Field(description="The trained network.")


class ModelStageSpec(Spec):
    """The folder that `sparsify.load` reads."""

    packed: bool = Field(description="Whether zeros take no space in it; else its weights are safetensors.")
    source: SourceSpec = Field(description="The trained network.")


class CompareStageSpec(Spec):
    """The one reading of the test set: dense and pruned, example by example."""

    source: SourceSpec = Field(description="The trained network.")
