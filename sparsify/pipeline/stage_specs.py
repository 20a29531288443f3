"""What determines each stage that is no training of the ticket search; see `TrainingSpec` for those. Torch-free."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sparsify.recipe.spec import DataSpec, LatencySpec, SparseSpec, Spec


class ProbeArmSpec(Spec):
    """One arm of a probe."""

    probe: str = Field(description="The probe's name.")
    data: DataSpec = Field(description="The data.")
    device: str = Field(description="Kind of device it runs on.")
    arm: dict[str, Any] = Field(description="The arm's own spec.")


class ProbeSummarySpec(Spec):
    """The conclusion of a probe."""

    probe: str = Field(description="The probe's name.")
    settings: dict[str, Any] = Field(description="The probe's spec in the recipe.")


class TestSpec(Spec):
    """The one reading of the test set."""

    data: DataSpec = Field(description="The data.")
    data_fingerprint: str = Field(description="SHA-256 that identifies the data's content and split.")
    device: str = Field(description="Kind of device it runs on.")


class ExportStageSpec(Spec):
    """One export for one target."""

    target: str = Field(description="The target's name.")
    batch_sizes: tuple[int, ...] = Field(description="Batch sizes whose numerics are checked.")
    data: DataSpec = Field(description="Where real inputs are taken from.")
    allow_import: tuple[str, ...] = Field(default=(), description="Packages whose code may build the networks.")
    trained: bool = Field(default=False, description="Whether the data may be of any kind, as for trained networks.")
    sparse: SparseSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that runs made before the field was there keep their keys
        description="How the graph is rewritten, for a target that does so.",
    )


class LatencyStageSpec(Spec):
    """One measurement of latency; belongs to one machine."""

    target: str = Field(description="The target's name.")
    latency: LatencySpec = Field(description="How it is measured.")
    machine: dict[str, Any] = Field(description="What identifies the machine: processor, GPU, instruction sets, cores.")
