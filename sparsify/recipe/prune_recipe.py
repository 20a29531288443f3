"""The recipe of `sparsify prune`: a trained network, what to remove, how to recover, what must hold. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sparsify.recipe.misfit import Misfit
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_spec import MaskScheduleSpec, OneShotSpec, RecoverySpec
from sparsify.recipe.spec import (
    ComputeSpec,
    Count,
    DataSpec,
    ExportSpec,
    Fraction,
    GateSpec,
    LatencySpec,
    Positive,
    Spec,
    data_by_name,
)

_SHARE = Annotated[float, Field(gt=0, lt=1)]


class TrainedSpec(Spec):
    """A network that somebody trained."""

    model: str = Field(
        description="A model's name (`sparsify ls models`), torchvision:NAME, timm:NAME, transformers:PATH, or "
        "package.module:factory."
    )
    weights: str | None = Field(
        default=None,
        description="File of the weights, .safetensors, .pt or .pth; none where the source has its own.",
    )
    allow_import: tuple[str, ...] = Field(
        default=(), description="Packages whose code may be imported to build the model."
    )


class RemovalSpec(Spec):
    """What is removed, and how it is chosen."""

    pattern: Pattern = Field(
        default=Pattern("unstructured"),
        description="Which sets of weights may go: unstructured, n:m, block:RxC, or channel (physically removed).",
    )
    criterion: str = Field(default="magnitude", description="What scores a weight (`sparsify ls criteria`).")
    allocation: Literal["auto", "global", "uniform", "erk", "searched"] = Field(
        default="auto",
        description="How the sparsity is spread over layers; `auto` is global where the criterion's scores can be "
        "compared over the whole network, else uniform; `searched` prunes each layer alone, measures the loss on "
        "the calibration examples, and spreads for the least sum of drops.",
    )
    shuffled: bool = Field(
        default=False,
        description="Whether what goes is drawn anew within each layer (of n:m within each group), in the same counts, "
        "as a check that its choice matters.",
    )
    overrides: dict[str, Fraction] = Field(
        default={},
        description="Sparsity by name of a layer or its weight; `*` and `?` match, the longest wins, 0 leaves it.",
    )
    calibration: Count = Field(default=512, description="Training examples that data-driven criteria and recovery see.")
    schedule: MaskScheduleSpec = Field(
        default=OneShotSpec(), description="When weights go: at once, or while the network is fine-tuned."
    )
    round_to: Positive = Field(
        default=1, description="Channel counts are multiples of it: the runtime's vector width, 8 or 16."
    )


class TargetSpec(Spec):
    """What is asked for: one of the first five, and the largest drop allowed."""

    sparsity: Fraction | None = Field(
        default=None,
        description="Fraction removed of the prunable weights: with channels of all of them, else of the layers that "
        "compete, which the pattern fits and which have no override of their own.",
    )
    macs: _SHARE | None = Field(default=None, description="Fraction of the dense multiplications that may remain.")
    size: Positive | None = Field(
        default=None,
        description="Largest size in bytes: of the target's model.onnx where what is removed takes no space in it "
        "(channels, or sparse-cpu), else of model/weights.packed, which `sparsify.load` reads.",
    )
    latency_ms: float | None = Field(
        default=None, gt=0, description="Largest median latency in milliseconds, by the interval's upper bound."
    )
    speedup: float | None = Field(
        default=None, gt=1, description="Least speedup over dense fp32, by the interval's lower bound."
    )
    max_drop: float | None = Field(
        default=None, gt=0, description="Largest drop of the metric on validation, absolute, by the upper bound."
    )
    trials: Positive = Field(default=8, description="Most sparsities tried when a target has to be searched for.")

    @property
    def kind(self) -> str:
        """Which of the five is asked for."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def asked(self) -> float:
        """Its value."""
        return getattr(self, self.kind)


KINDS = ("sparsity", "macs", "size", "latency_ms", "speedup")


class PruneRecipe(Spec):
    """One trained network, pruned, recovered, exported and measured."""

    kind: Literal["prune"] = Field(description="`prune`: what tells this recipe from one of `sparsify run`.")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)] = Field(
        description="Short name; the default run folder is runs/NAME."
    )
    description: str = Field(default="", description="One line for `sparsify ls`.")
    seed: Count = Field(default=0, description="Seed from which every other seed is derived.")
    trained: TrainedSpec = Field(description="The trained network.")
    data: DataSpec = Field(description="The data and how they are split; a source's name alone will do.")
    task: str = Field(default="auto", description="What the network does, and so its metric; `auto` asks the data.")
    removal: RemovalSpec = Field(default=RemovalSpec(), description="What is removed.")
    target: TargetSpec = Field(description="What is asked for.")
    recovery: RecoverySpec = Field(default=RecoverySpec(), description="How the loss is made good.")
    export: ExportSpec = Field(default=ExportSpec(), description="What is exported, and where to.")
    latency: LatencySpec = Field(default=LatencySpec(), description="How latency is measured.")
    gate: GateSpec = Field(default=GateSpec(), description="What `sparsify gate` holds the run against.")
    compute: ComputeSpec = Field(default=ComputeSpec(), description="Where the work runs.")

    @model_validator(mode="before")
    @classmethod
    def _data_by_name(cls, values: Any) -> Any:
        return data_by_name(values)

    @model_validator(mode="after")
    def _target_fits_pattern(self) -> PruneRecipe:
        asked = [name for name in KINDS if getattr(self.target, name) is not None]
        pattern = self.removal.pattern
        implied = pattern.sparsity
        self._schedule_fits()
        self._removal_fits()
        if len(asked) > 1 or (not asked and implied is None):
            got = " and ".join(asked) or "none of them"
            raise Misfit(
                ("target",), expected=f"one of {', '.join(KINDS)}", got=got, mend="write for example sparsity: 0.5"
            )
        if self.target.macs is not None and pattern.kind != "channel":
            mend = "write pattern: channel, or ask for a sparsity"
            raise Misfit(
                ("target", "macs"),
                expected="the pattern channel, which alone removes work",
                got=str(pattern),
                mend=mend,
            )
        if implied is not None and asked and (asked != ["sparsity"] or abs(self.target.asked - implied) > 1e-9):
            mend = f"leave the target out: {pattern} removes {implied:g} of each layer"
            raise Misfit(
                ("target", asked[0]),
                expected=f"sparsity {implied:g}, which {pattern} implies",
                got=f"{asked[0]} {self.target.asked:g}",
                mend=mend,
            )
        return self

    def _schedule_fits(self) -> None:
        schedule = self.removal.schedule.name
        if self.removal.shuffled and schedule != "one-shot":
            got, mend = f"the schedule {schedule}", "leave shuffled out, or write name: one-shot"
            raise Misfit(("removal", "shuffled"), expected="a mask that is chosen once", got=got, mend=mend)
        if self.removal.pattern.kind == "channel" and self.recovery.reconstruct is not None:
            mend = "leave reconstruct out, write recalibrate or finetune instead, or another pattern"
            expected = "no reconstruction of layers that have lost channels, which the dense network's do not fit"
            raise Misfit(("recovery", "reconstruct"), expected=expected, got="the pattern channel", mend=mend)
        if schedule != "one-shot" and self.recovery.reconstruct is not None:
            mend = "leave reconstruct out, or write name: one-shot"
            expected = "no reconstruction beside a mask that moves"
            raise Misfit(("recovery", "reconstruct"), expected=expected, got=schedule, mend=mend)
        if schedule == "one-shot":
            return
        if self.recovery.finetune is None:
            mend = "write recovery: {finetune: {steps: 5ep}}"
            raise Misfit(("removal", "schedule"), expected="finetune, which it acts in", got="none", mend=mend)
        if self.removal.pattern.kind == "channel":
            mend = "write name: one-shot, or another pattern"
            raise Misfit(("removal", "schedule"), expected="one-shot for channels", got=schedule, mend=mend)

    def _removal_fits(self) -> None:
        removal = self.removal
        channels = removal.pattern.kind == "channel"
        if removal.round_to > 1 and not channels:
            mend = "leave round_to out, or write pattern: channel"
            expected = "the pattern channel, whose counts it rounds"
            raise Misfit(("removal", "round_to"), expected=expected, got=str(removal.pattern), mend=mend)
        path = ("removal", "allocation")
        if channels and removal.allocation == "erk":
            mend = "leave the allocation out, or write uniform"
            raise Misfit(path, expected="global or uniform for the pattern channel", got="erk", mend=mend)
        if removal.allocation != "searched":
            return
        if channels or removal.pattern.sparsity is not None:
            expected, mend = "unstructured or block, whose sparsity is free", "leave the allocation out"
            raise Misfit(path, expected=f"the pattern {expected}", got=str(removal.pattern), mend=mend)
        if removal.schedule.name != "one-shot":
            mend = "write name: one-shot, or another allocation"
            raise Misfit(path, expected="one-shot beside searched", got=removal.schedule.name, mend=mend)
        if not removal.calibration:
            mend = "write calibration: 512, or another allocation"
            raise Misfit(path, expected="calibration examples to measure on", got="none", mend=mend)

    @property
    def recovers(self) -> bool:
        """Whether anything is done to make the loss good."""
        return any(getattr(self.recovery, name) is not None for name in RecoverySpec.model_fields)

    @property
    def recovery_told(self) -> str:
        """What is done to make the loss good, in words."""
        parts = [name for name in RecoverySpec.model_fields if getattr(self.recovery, name) is not None]
        if self.recovery.finetune is not None:
            parts[parts.index("finetune")] = f"finetune {self.recovery.finetune.steps}"
        return ", ".join(parts) or "none"

    @property
    def sparsity(self) -> float | None:
        """The sparsity that is asked for or that the pattern implies; None where it is searched for."""
        return self.removal.pattern.sparsity or self.target.sparsity
