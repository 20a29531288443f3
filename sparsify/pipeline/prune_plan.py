"""The stages of `sparsify prune`, and what each depends on. Torch-free.

preflight/                   what of it can be pruned, and how far
dense/                       the network as given, and its scores
trials/sparsity_0.5000/      one sparsity that was tried; the only one, unless a target is searched for
    pruned/  recovered/      without and with recovery
    export/TARGET/  latency/TARGET/  latency-again/TARGET/     of `pruned`, where the search needs them
trials/most/                 the most that can go: where a search begins
model/                       what `sparsify.load` reads: the network that was chosen
test/                        dense and chosen on the test set, read once
export/TARGET/  latency/TARGET/       of the chosen network
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsify.data.catalogue import fingerprint
from sparsify.errors import InputOutputError, UsageError
from sparsify.machine import hardware
from sparsify.models.source_name import SourceName
from sparsify.pipeline.plan import training_device
from sparsify.pipeline.prune_specs import CompareStageSpec, ModelStageSpec, PruneStageSpec, RecoverStageSpec, SourceSpec
from sparsify.pipeline.stage import Stage
from sparsify.pipeline.stage_specs import ExportStageSpec, LatencyStageSpec
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.seeds import derive_seed
from sparsify.store.digest import digest, file_sha256
from sparsify.store.layout import MODEL
from sparsify_export.targets import skips_zeros

PREFLIGHT, DENSE, TEST = "preflight", "dense", "test"
HIGHEST = 0.95
"""The sparsity that a search tries first, or the most the network gives where that is less."""


@dataclass(frozen=True)
class PrunePlan:
    """The stages of one prune recipe.

    Attributes:
        recipe: the recipe.
        source: the trained network, its weights digested.
    """

    recipe: PruneRecipe
    source: SourceSpec

    @classmethod
    def of(cls, recipe: PruneRecipe) -> PrunePlan:
        """The plan on this machine.

        Raises:
            InputOutputError: the weights are not there.
            UnavailableError: the recipe asks for a device that is not here.
        """
        trained = recipe.trained
        source = SourceSpec(
            model=trained.model,
            weights=trained.weights,
            content=_content(trained.model, trained.weights),
            allow_import=trained.allow_import,
            data=recipe.data,
            data_fingerprint=fingerprint(recipe.data),
            task=recipe.task,
            device=training_device(recipe.compute.device),
            seed=derive_seed(recipe.seed, "source"),
        )
        return cls(recipe, source)

    def first(self) -> Stage:
        """The removal that is tried first: the one that is asked for, or, for a search, the most there is."""
        target = self.recipe.target
        if self.recipe.sparsity is None and target.macs is None:
            return self.pruned(HIGHEST, or_most=True)
        return self.pruned(self.recipe.sparsity, target.macs)

    def preflight(self) -> Stage:
        """Whether the first removal can be had, and trained on after it: refused before anything is scored."""
        trains = True if self.recipe.recovery.finetune is not None else None
        return Stage(PREFLIGHT, "preflight", self.first().spec.model_copy(update={"trains": trains}), derived=True)

    def dense(self) -> Stage:
        """The network as it was given."""
        return Stage(DENSE, "source", self.source, derived=True)

    def pruned(self, sparsity: float | None, macs: float | None = None, *, or_most: bool = False) -> Stage:
        """One removal; `or_most`: or the most that the network gives, where that is less."""
        spec = PruneStageSpec(
            removal=self.recipe.removal,
            sparsity=sparsity,
            macs=macs,
            or_most=True if or_most else None,
            seed=derive_seed(self.recipe.seed, "prune"),
            source=self.source,
        )
        folder = "trials/most" if or_most else _trial(sparsity, macs)
        return Stage(f"{folder}/pruned", "prune", spec, {"dense": DENSE}, {"prune": spec.seed})

    def recovered(self, pruned: Stage) -> Stage:
        """The same after recovery; `pruned` itself where none is asked for."""
        if not self.recipe.recovers:
            return pruned
        assert isinstance(pruned.spec, PruneStageSpec)
        spec = RecoverStageSpec(
            recovery=self.recipe.recovery,
            removal=self.recipe.removal,
            sparsity=pruned.spec.sparsity,
            calibration=self.recipe.removal.calibration,
            seed=derive_seed(self.recipe.seed, "recover"),
            source=self.source,
        )
        path = f"{Path(pruned.path).parent}/recovered"
        return Stage(path, "recover", spec, {"dense": DENSE, "pruned": pruned.path}, {"recover": spec.seed})

    def exports(self, network: Stage, below: str = "") -> list[Stage]:
        """One export a target, of `network` and dense; `below` is the folder they go under."""
        settings = self.recipe.export
        return [
            Stage(
                f"{below}export/{target}",
                "export",
                ExportStageSpec(
                    target=target,
                    batch_sizes=settings.batch_sizes,
                    data=self.recipe.data,
                    allow_import=self.source.allow_import,
                    trained=True,
                    sparse=settings.sparse if skips_zeros(target) else None,
                ),
                {"ticket": network.path, "dense": DENSE},
                derived=True,
            )
            for target in settings.targets
        ]

    def latencies(self, below: str = "", *, again: bool = False) -> list[Stage]:
        """One measurement a target of what was exported under `below`; `again`: a second one."""
        folder = "latency-again" if again else "latency"
        machine = hardware()
        return [
            Stage(
                f"{below}{folder}/{target}",
                "latency",
                LatencyStageSpec(target=target, latency=self.recipe.latency, machine=machine),
                {"export": f"{below}export/{target}"},
                derived=True,
            )
            for target in self.recipe.export.targets
        ]

    def model(self, network: Stage) -> Stage:
        """The folder that `sparsify.load` reads; packed where zeros stay in place, which channels do not leave."""
        spec = ModelStageSpec(packed=self.recipe.removal.pattern.kind != "channel", source=self.source)
        return Stage(MODEL, "model", spec, {"network": network.path, "dense": DENSE}, derived=True)

    def test(self) -> Stage:
        """Dense and chosen on the test set."""
        spec = CompareStageSpec(source=self.source)
        return Stage(TEST, "compare", spec, {"dense": DENSE, "model": MODEL}, derived=True)


def below(network: Stage) -> str:
    """The folder of the trial a network belongs to, with a slash, for the exports of that trial."""
    return f"{Path(network.path).parent}/"


def _trial(sparsity: float | None, macs: float | None) -> str:
    return f"trials/macs_{macs:.4f}" if sparsity is None else f"trials/sparsity_{sparsity:.4f}"


def _content(model: str, weights: str | None) -> str:
    """SHA-256 of the files the weights come from: the weights' own file, or all of a transformers folder."""
    if weights is not None:
        if not Path(weights).is_file():
            raise InputOutputError(f"trained.weights: expected a file, got none at {weights}; name it with --weights")
        return file_sha256(Path(weights))
    name = SourceName.parse(model)
    if name.kind == "transformers" and (folder := Path(name.name)).is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        return digest({path.name: file_sha256(path) for path in files})
    if name.kind in ("zoo", "torchvision", "timm"):
        raise UsageError(
            f"trained.weights: expected the file of {model}'s trained weights, got none; give --weights FILE "
            "(.safetensors, .pt or .pth)"
        )
    return digest(model)
