"""How a pruned network is mended, and how its mask moves while it trains: frozen models, no torch.

Every part is optional and they combine. A recovery runs in this order: layers reconstructed, then fine-tuned (with or
without distillation, the mask moving or not), then BatchNorm recalibrated.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsify.recipe.misfit import Misfit
from sparsify.recipe.spec import Fraction, Positive, Probability, ScheduleSpec, SgdSpec, Spec, TrainSpec
from sparsify.recipe.spec import OptimizerSpec as OptimizerSpec
from sparsify.recipe.step import Step


class EarlyStopSpec(Spec):
    """Stop when validation no longer gets better, and keep the best weights seen."""

    patience: Positive = Field(
        default=3, description="Measurements in a row without a new best after which training stops."
    )
    watch: Literal["metric", "loss"] = Field(
        default="metric", description="Whether the best has the highest validation metric or the lowest loss."
    )


class FinetuneSpec(TrainSpec):
    """Training of a pruned network under its mask."""

    steps: Step = Field(
        default=Step(5, "ep"), description="Length of fine-tuning, in epochs (`5ep`) or iterations (`2000it`)."
    )
    optimizer: OptimizerSpec = Field(
        default=SgdSpec(lr=0.01, weight_decay=1e-4), description="The optimiser and its constants."
    )
    schedule: ScheduleSpec = Field(
        default=ScheduleSpec(name="cosine"), description="The learning-rate schedule of fine-tuning."
    )
    rewind: Step | None = Field(
        default=None,
        description="Length of the training whose last `steps` are replayed, learning rates and data order with them "
        "(learning-rate rewinding); none for a schedule of fine-tuning's own length.",
    )
    early_stop: EarlyStopSpec | None = Field(
        default=None, description="When to stop before the last step; none to train to the end and keep the end."
    )


class DistillSpec(Spec):
    """Fine-tuning that also imitates the dense network."""

    temperature: float = Field(
        default=4.0, gt=0, description="What both networks' logits are divided by before they are compared."
    )
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.9, description="Share of the loss that comes from the dense network's output; 1 needs no labels."
    )
    features: tuple[str, ...] = Field(
        default=(), description="Modules, named as in the network, whose outputs are held against the dense network's."
    )
    feature_weight: float = Field(
        default=1.0, ge=0, description="Factor of the features' mean squared error, which is added to the loss."
    )


class RecalibrateSpec(Spec):
    """BatchNorm statistics estimated again, over calibration batches, for the pruned network."""

    examples: Positive = Field(default=1024, description="Training examples the statistics are averaged over.")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        default=64, description="Examples per batch; each batch has the same weight in the average."
    )


class ReconstructSpec(Spec):
    """Layer by layer, the kept weights that come nearest to the dense layer's outputs; needs no labels."""

    examples: Positive = Field(default=256, description="Training examples whose activations the layers are fitted on.")
    batch_size: Positive = Field(default=64, description="Examples per forward pass; changes memory, not the result.")
    damping: Annotated[float, Field(ge=0)] = Field(
        default=0.1,
        description="Ridge that holds weights near their old values, as a share of the inputs' mean square.",
    )
    bias: bool = Field(default=True, description="Whether a layer's bias is fitted with its weights.")


class RecoverySpec(Spec):
    """How a pruned network is mended; each part is optional."""

    reconstruct: ReconstructSpec | None = Field(default=None, description="Layer-wise reconstruction without labels.")
    finetune: FinetuneSpec | None = Field(default=None, description="Training under the mask.")
    distill: DistillSpec | None = Field(default=None, description="Imitation of the dense network in fine-tuning.")
    recalibrate: RecalibrateSpec | None = Field(default=None, description="BatchNorm statistics estimated again, last.")

    @model_validator(mode="after")
    def _distillation_is_training(self) -> RecoverySpec:
        if self.distill is not None and self.finetune is None:
            mend = "write finetune: {steps: 5ep}, or remove distill"
            raise Misfit(("distill",), expected="finetune beside distill", got="no finetune", mend=mend)
        return self


class OneShotSpec(Spec):
    """All at once, before the first step (Han et al. 2015)."""

    name: Literal["one-shot"] = Field(default="one-shot", description="The schedule's name.")


class IterativeSpec(Spec):
    """Rounds of pruning and training; each removes the same fraction of what remains (Han et al. 2015)."""

    name: Literal["iterative"] = Field(default="iterative", description="The schedule's name.")
    rounds: Annotated[int, Field(ge=2)] = Field(
        default=3, description="Rounds the steps are divided into; each begins with a pruning."
    )


class GradualSpec(Spec):
    """Sparsity that rises along a cubic curve (Zhu & Gupta 2017)."""

    name: Literal["gradual"] = Field(default="gradual", description="The schedule's name.")
    initial: Fraction = Field(default=0.0, description="Sparsity after the first pruning.")
    begin: Step = Field(default=Step(0, "it"), description="When the first pruning is, from the first step.")
    until: Probability = Field(default=0.75, description="Share of the steps after which the target is reached.")
    prunings: Positive = Field(default=20, description="Prunings after the first, at equal distances.")


class SetSpec(Spec):
    """Sparse evolutionary training: small weights are dropped, others grown at random (Mocanu et al. 2018)."""

    name: Literal["set"] = Field(default="set", description="The schedule's name.")
    fraction: Probability = Field(default=0.3, description="Share of each layer's weights dropped and grown at a time.")
    every: Step = Field(default=Step(1, "ep"), description="How often weights are dropped and grown.")
    until: Probability = Field(default=0.75, description="Share of the steps after which the mask stays.")


class RiglSpec(Spec):
    """RigL: small weights are dropped, those of large gradient grown; the share falls by cosine (Evci et al. 2020)."""

    name: Literal["rigl"] = Field(default="rigl", description="The schedule's name.")
    fraction: Probability = Field(
        default=0.3, description="Share of each layer's weights dropped and grown at first; it falls to 0 by cosine."
    )
    every: Step | None = Field(
        default=None,
        description="How often weights are dropped and grown; none for every 100 steps, or a tenth of the steps in "
        "which the mask moves where that is less.",
    )
    until: Probability = Field(default=0.75, description="Share of the steps after which the mask stays.")


class AcdcSpec(Spec):
    """AC/DC: dense and sparse phases in turn, sparse at the end (Peste et al. 2021)."""

    name: Literal["acdc"] = Field(default="acdc", description="The schedule's name.")
    warmup: Step = Field(default=Step(0, "it"), description="Length of dense training before the first sparse phase.")
    phase: Step = Field(default=Step(1, "ep"), description="Length of each sparse and each dense phase.")
    final: Step = Field(default=Step(2, "ep"), description="Least length of the last sparse phase.")


MaskScheduleSpec = Annotated[
    OneShotSpec | IterativeSpec | GradualSpec | SetSpec | RiglSpec | AcdcSpec, Field(discriminator="name")
]
