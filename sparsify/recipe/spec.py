"""The recipe: frozen pydantic models, pure data, unknown keys refused. No torch here.

Every field is one sentence, which feeds the JSON Schema and the docs. Defaults live here and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparsify.recipe.misfit import Misfit
from sparsify.recipe.rules import rules
from sparsify.recipe.step import Step

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class Spec(BaseModel):
    """Base of every part of a recipe: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


class MomentsSpec(Spec):
    """What a network's training images were normalised by, channel by channel."""

    mean: tuple[float, ...] = Field(description="What is subtracted, of pixels in [0, 1].")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="What is divided by then, of pixels in [0, 1].")


class DataSpec(Spec):
    """Which images, and how they are split into train, validation and test."""

    source: str = Field(description="A dataset's name, or your own data such as `npz:PATH` (`sparsify ls datasets`).")
    validation: Probability = Field(
        default=1 / 12, description="Share of the training images held out for validation; choices are made on it."
    )
    test: Probability = Field(
        default=0.2, description="Share of all images held out for test, where the source has no test set of its own."
    )
    split_seed: Count = Field(default=0, description="Seed of the split; the same for all replicates.")
    normalize: Literal["unit", "standard", "imagenet", "none"] | MomentsSpec = Field(
        default="standard",
        description="`unit` scales pixels to [0, 1]; `standard` also subtracts the training mean and divides by the "
        "training deviation, per channel; `imagenet` does so by ImageNet's, a mapping of `mean` and `std` by those "
        "given; `none` leaves values as they are. Where nothing is said, `sparsify prune` takes `none` for arrays of "
        "an npz and a model of one's own, and for pictures what the model's library has.",
    )
    image_size: Positive | None = Field(
        default=None,
        description="Side in pixels that the pictures of an image-folder or hf-dataset are resized and cropped to; "
        "others keep theirs.",
    )
    resize: Positive | None = Field(
        default=None,
        description="Side in pixels that a picture's shorter side is resized to, before its centre of `image_size` is "
        "cropped; `image_size` where not given.",
    )
    fit: Literal["crop", "squash"] | None = Field(
        default=None,
        description="`crop` keeps a picture's proportions; `squash` resizes both sides to `resize`; crop where not "
        "given.",
    )
    interpolation: Literal["bilinear", "bicubic"] | None = Field(
        default=None, description="How pictures are resized; bilinear where not given."
    )
    colour: Literal["grey", "rgb"] | None = Field(
        default=None, description="What pictures are turned into; where not given grey if all of them are, else rgb."
    )
    tokenizer: str | None = Field(
        default=None,
        description="A `tokenizer.json`, or the folder it lies in, for the text of an hf-dataset; none for others.",
    )
    max_tokens: Positive | None = Field(
        default=None, description="Tokens an hf-dataset's texts are cut to at most; 128 where not given."
    )


def data_by_name(values: Any) -> Any:
    """`data: digits` is short for `data: {source: digits}`."""
    if isinstance(values, dict) and isinstance(values.get("data"), str):
        return {**values, "data": {"source": values["data"]}}
    return values


class SgdSpec(Spec):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = Field(default="sgd", description="The optimiser's name.")
    lr: float = Field(default=0.1, gt=0, description="Learning rate at its peak.")
    momentum: Fraction = Field(default=0.9, description="Momentum coefficient.")
    nesterov: bool = Field(default=False, description="Whether momentum looks ahead (Nesterov).")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty added to the gradient.")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SgdSpec:
        if self.nesterov and self.momentum == 0:
            raise Misfit(("nesterov",), expected="momentum above 0", got="momentum 0", mend="write nesterov: false")
        return self


class AdamSpec(Spec):
    """Adam, or AdamW with its decoupled weight decay."""

    name: Literal["adam", "adamw"] = Field(default="adam", description="The optimiser's name.")
    lr: float = Field(default=1.2e-3, gt=0, description="Learning rate at its peak.")
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), description="Decay of the two moment averages.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the denominator.")
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty added to the gradient (adam) or decoupled decay (adamw)."
    )


OptimizerSpec = Annotated[SgdSpec | AdamSpec, Field(discriminator="name")]


class ScheduleSpec(Spec):
    """How the learning rate moves over training, after a linear warm-up."""

    name: Literal["constant", "multistep", "cosine", "linear"] = Field(
        default="constant", description="Shape of the schedule after warm-up."
    )
    warmup: Step = Field(default=Step(0, "it"), description="Length of the linear warm-up from zero.")
    milestones: tuple[Step, ...] = Field(default=(), description="Where `multistep` multiplies the rate by `gamma`.")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="Factor at each milestone.")

    @model_validator(mode="after")
    def _milestones_belong_to_multistep(self) -> ScheduleSpec:
        if self.name == "multistep" and not self.milestones:
            raise Misfit(("milestones",), expected="milestones for multistep", got="none", mend="write [80ep, 120ep]")
        if self.milestones and self.name != "multistep":
            mend = "remove them, or write name: multistep"
            raise Misfit(("milestones",), expected=f"no milestones for {self.name}", got="some", mend=mend)
        return self


class AugmentSpec(Spec):
    """Random changes to training images, drawn from the seed and the step."""

    flip: bool = Field(default=False, description="Whether to mirror each image left to right with probability 1/2.")
    crop: Count = Field(default=0, description="Pixels of zero padding from which a random crop is taken; 0 for none.")


class TrainSpec(Spec):
    """One training: the same for the dense network, every level and every control."""

    steps: Step = Field(description="Length of one training, in epochs (`10ep`) or iterations (`2000it`).")
    batch_size: Positive = Field(default=60, description="Images per optimiser step.")
    optimizer: OptimizerSpec = Field(default=AdamSpec(), description="The optimiser and its constants.")
    schedule: ScheduleSpec = Field(default=ScheduleSpec(), description="The learning-rate schedule.")
    augment: AugmentSpec = Field(default=AugmentSpec(), description="Random changes to training images.")
    label_smoothing: Fraction = Field(default=0.0, description="Probability mass spread over the other classes.")
    gradient_clip: float | None = Field(
        default=None, gt=0, description="Largest 2-norm of the gradient; none for no clipping."
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32",
        description="Autocast precision; `auto` takes bf16 where the device was found to gain from it, and "
        "history.json says what ran.",
    )
    eval_every: Step = Field(
        default=Step(1, "ep"), description="How often validation is measured; early stopping is read from this curve."
    )


class PruneSpec(Spec):
    """Iterative magnitude pruning: how much, where, and what the survivors are rewound to."""

    levels: Annotated[int, Field(ge=1, le=100)] = Field(
        default=8, description="Number of pruning levels after dense (level 0)."
    )
    prune_fraction: Probability = Field(
        default=0.2, description="Share of the remaining weights removed at each level."
    )
    overrides: dict[str, Fraction] = Field(
        default={},
        description="Prune fraction by name of a layer or its weight; `*` and `?` match, the longest match wins, 0 "
        "leaves it dense.",
    )
    scope: Literal["global", "per-layer"] = Field(
        default="per-layer", description="Whether weights compete across layers or only within their own."
    )
    criterion: Literal["magnitude", "random"] = Field(
        default="magnitude", description="What scores a weight; low scores go first."
    )
    pattern: Literal["unstructured"] = Field(
        default="unstructured", description="Which sets of weights may be removed."
    )
    rewind: Step | Literal["learning-rate", "none"] = Field(
        default=Step(0, "it"),
        description="Step whose weights the survivors return to (`0it`, `500it`); `learning-rate` keeps "
        "trained weights and replays the whole schedule; `none` fine-tunes at the schedule's last learning rate.",
    )


class ControlSpec(Spec):
    """A control that an honest claim about a ticket needs."""

    name: Literal["reinit", "shuffled-mask", "random-mask", "one-shot"] = Field(
        description="`reinit` redraws the weights under the ticket's mask; `shuffled-mask` shuffles it within layers; "
        "`random-mask` draws one of equal density in each layer; `one-shot` prunes dense to the level in one step."
    )
    levels: tuple[Positive, ...] = Field(min_length=1, description="Levels at which the control is run.")


class MatchingSpec(Spec):
    """When a level counts as matching, and a ticket as winning; fixed before the data are seen."""

    margin: float = Field(default=0.005, gt=0, lt=1, description="Non-inferiority margin in validation accuracy.")
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="Family-wise error of the one-sided paired t tests (Holm)."
    )


class PerturbRestSpec(Spec):
    """Does the ticket survive when the rest of the network changes?"""

    name: Literal["perturb-rest"] = Field(default="perturb-rest", description="The probe's name.")
    levels: tuple[Positive, ...] = Field(min_length=1, description="Levels whose tickets are probed.")
    redraws: Positive = Field(default=5, description="Draws of the rest of the network per ticket and arm.")
    scales: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.1, 1.0, 10.0), description="Factors the rest of the network is scaled by."
    )


ProbeSpec = PerturbRestSpec  # a second probe makes this a union discriminated by `name`


SparsePrecision = Literal["f32", "f16", "bf16", "i8"]


class SparseSpec(Spec):
    """How a graph is rewritten for a target that skips zeros."""

    precision: SparsePrecision = Field(
        default="f32",
        description="`f16` and `bf16` store weights in 16 bits; `f16` multiplies in half precision where the processor "
        "can and it is faster, else both compute in fp32; `i8` rounds weights and activations of a layer to 8 bits "
        "where that is faster.",
    )
    min_sparsity: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default="auto", description="From where a layer is replaced; `auto` compares expected times."
    )


class ExportSpec(Spec):
    """What is exported, and for which targets."""

    targets: tuple[str, ...] = Field(
        default=("onnxruntime-cpu",), min_length=1, description="Deployment targets (`sparsify ls targets`)."
    )
    level: Literal["auto"] | Positive = Field(
        default="auto",
        description="Level to export; `auto` takes the sparsest level that holds dense accuracy on validation.",
    )
    batch_sizes: tuple[Positive, ...] = Field(
        default=(1, 8), min_length=1, description="Batch sizes whose numerics are checked."
    )
    sparse: SparseSpec | None = Field(
        default=None, description="For the target sparse-cpu: precision, and from which sparsity layers are replaced."
    )


class LatencySpec(Spec):
    """How dense and sparse are timed against each other."""

    batch_size: Positive = Field(default=1, description="Images per inference.")
    threads: Positive = Field(default=1, description="Threads the runtime may use.")
    pairs: Annotated[int, Field(ge=20)] = Field(default=200, description="Interleaved dense-sparse pairs per launch.")
    launches: Positive = Field(default=3, description="Fresh processes the pairs are repeated in.")
    equivalence: float = Field(
        default=0.05, gt=0, lt=1, description="Half-width of the band of ratios called equivalent."
    )


class GateSpec(Spec):
    """What a pipeline holds the run against; unset thresholds are not checked."""

    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Largest allowed validation-accuracy drop from dense, by the interval's upper bound.",
    )
    drop: float | None = Field(
        default=None,
        ge=0,
        description="The same of the run's own metric, whatever it is, in its own unit.",
    )
    macs: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Largest allowed share of the dense multiplications that is left; of a prune run.",
    )
    speedup: float | None = Field(
        default=None, gt=0, description="Smallest allowed speedup over dense fp32, by the interval's lower bound."
    )
    latency_ms: float | None = Field(
        default=None,
        gt=0,
        description="Largest allowed median latency in milliseconds, by the interval's upper bound.",
    )
    size: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Largest allowed size as a fraction of the dense fp32 one: packed, or, in a prune run, as for "
        "`target.size`.",
    )
    target: Literal["met"] | None = Field(
        default=None, description="`met`: what a prune run was asked for must be met, by its own judgement."
    )


class ComputeSpec(Spec):
    """Where the work runs; belongs to no stage's key: on the CPU `threads` alone changes results, in the last bits."""

    workers: Positive | Literal["auto"] = Field(
        default="auto", description="Processes to run stages in; `auto` is one a core."
    )
    threads: Positive | Literal["auto"] = Field(
        default="auto",
        description="Threads of each of them; `auto` is one, and in a prune run, which does one thing after another, "
        "OMP_NUM_THREADS or one a core.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where training runs; `auto` takes a GPU if there is one."
    )
    checkpoint_seconds: float = Field(
        default=20.0, ge=0, description="Longest time of training that a kill can lose, in seconds."
    )


class Recipe(Spec):
    """One experiment from data to gate."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)] = Field(
        description="Short name; the default run folder is runs/NAME."
    )
    description: str = Field(default="", description="One line for `sparsify ls`.")
    seed: Count = Field(default=0, description="Seed from which every other seed is derived.")
    model: str = Field(description="A model's name (`sparsify ls models`) or `mlp:784-512-10`.")
    data: DataSpec = Field(
        description="The images and how they are split; a source's name alone will do (`data: digits`)."
    )
    train: TrainSpec = Field(description="How a network is trained.")
    prune: PruneSpec = Field(default=PruneSpec(), description="How tickets are found.")
    replicates: Positive = Field(default=1, description="Independent repetitions by seed; claims need at least 5.")
    controls: tuple[ControlSpec, ...] = Field(default=(), description="Controls and the levels they are run at.")
    matching: MatchingSpec = Field(default=MatchingSpec(), description="When a level is called matching or winning.")
    probes: tuple[ProbeSpec, ...] = Field(default=(), description="Probes of the tickets.")
    export: ExportSpec = Field(default=ExportSpec(), description="What is exported, and where to.")
    latency: LatencySpec = Field(default=LatencySpec(), description="How latency is measured.")
    gate: GateSpec = Field(default=GateSpec(), description="What `sparsify gate` holds the run against.")
    compute: ComputeSpec = Field(default=ComputeSpec(), description="Where the work runs.")

    @model_validator(mode="before")
    @classmethod
    def _data_by_name(cls, values: Any) -> Any:
        return data_by_name(values)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Recipe:
        for misfit in rules(self.model_dump(), self.prune.levels):
            raise misfit
        return self
