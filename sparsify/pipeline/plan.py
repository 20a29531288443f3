"""The plan of a run: its stages, what each depends on, and in what order they are best begun. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from sparsify.data.catalogue import fingerprint
from sparsify.errors import UnavailableError
from sparsify.lottery.training_spec import TrainingSpec, training_spec
from sparsify.machine import gpus, hardware
from sparsify.pipeline.stage import Stage
from sparsify.pipeline.stage_specs import ExportStageSpec, LatencyStageSpec, ProbeArmSpec, ProbeSummarySpec, TestSpec
from sparsify.probes.probe import ProbedTicket
from sparsify.probes.registry import PROBES
from sparsify.recipe.spec import ProbeSpec, Recipe
from sparsify_export.targets import skips_zeros


def ticket_path(replicate: int, level: int) -> str:
    """Folder of a ticket, relative to the run; level 0 is the dense network."""
    return f"replicate_{replicate}/" + (f"level_{level:02d}" if level else "dense")


def control_path(replicate: int, level: int, name: str) -> str:
    """Folder of a control, relative to the run."""
    return f"replicate_{replicate}/controls/level_{level:02d}/{name}"


def probe_path(name: str) -> str:
    """Folder of a probe's conclusion; its arms lie beside it under `arms`."""
    return f"probes/{name}/result"


@dataclass(frozen=True)
class Plan:
    """The stages of one recipe on one kind of device.

    Attributes:
        recipe: the recipe.
        fingerprint: SHA-256 that identifies its data.
        device: kind of device that trains.
    """

    recipe: Recipe
    fingerprint: str
    device: str

    @classmethod
    def of(cls, recipe: Recipe) -> Plan:
        """The plan on this machine; UnavailableError when the recipe asks for a device that is not here."""
        return cls(recipe, fingerprint(recipe.data), training_device(recipe.compute.device))

    def tickets(self) -> list[Stage]:
        """Dense networks, levels and controls: level by level, all replicates of a level together."""
        stages = [self._training(replicate, 0) for replicate in range(self.recipe.replicates)]
        for level in range(1, self.recipe.prune.levels + 1):
            stages += [self._training(replicate, level) for replicate in range(self.recipe.replicates)]
        return stages + list(self._controls())

    def probes(self) -> list[Stage]:
        """The arms of every probe, then its conclusion."""
        return [stage for spec in self.recipe.probes for stage in self._probe(spec)]

    def test(self) -> Stage:
        """The one reading of the test set, over dense and every level of every replicate."""
        spec = TestSpec(data=self.recipe.data, data_fingerprint=self.fingerprint, device=self.device)
        levels, replicates = range(self.recipe.prune.levels + 1), range(self.recipe.replicates)
        tickets = [ticket_path(replicate, level) for level in levels for replicate in replicates]
        return Stage("test", "test", spec, parents={path: path for path in tickets}, derived=True)

    def exports(self, replicate: int, level: int) -> list[Stage]:
        """One export a target, of one ticket and its dense network."""
        parents = {"ticket": ticket_path(replicate, level), "dense": ticket_path(replicate, 0)}
        settings = self.recipe.export
        return [
            Stage(
                f"export/{target}",
                "export",
                ExportStageSpec(
                    target=target,
                    batch_sizes=settings.batch_sizes,
                    data=self.recipe.data,
                    sparse=settings.sparse if skips_zeros(target) else None,
                ),
                parents=parents,
                derived=True,
            )
            for target in settings.targets
        ]

    def latencies(self) -> list[Stage]:
        """One measurement a target; the key holds the machine, so that another machine measures again."""
        machine = hardware()
        return [
            Stage(
                f"latency/{target}",
                "latency",
                LatencyStageSpec(target=target, latency=self.recipe.latency, machine=machine),
                parents={"export": f"export/{target}"},
                derived=True,
            )
            for target in self.recipe.export.targets
        ]

    def _spec(self, replicate: int, level: int, control: str | None = None) -> TrainingSpec:
        return training_spec(
            self.recipe,
            fingerprint=self.fingerprint,
            device=self.device,
            replicate=replicate,
            level=level,
            control=control,
        )

    def _training(self, replicate: int, level: int) -> Stage:
        spec = self._spec(replicate, level)
        parents = {"dense": ticket_path(replicate, 0), "previous": ticket_path(replicate, level - 1)} if level else {}
        return Stage(ticket_path(replicate, level), "level" if level else "dense", spec, parents, _seeds(spec))

    def _controls(self) -> Iterator[Stage]:
        wanted = {(level, control.name) for control in self.recipe.controls for level in control.levels}
        for level, name in sorted(wanted):
            for replicate in range(self.recipe.replicates):
                spec = self._spec(replicate, level, name)
                parents = {
                    "dense": ticket_path(replicate, 0),
                    "previous": ticket_path(replicate, level - 1),
                    "ticket": ticket_path(replicate, level),
                }
                yield Stage(control_path(replicate, level, name), "control", spec, parents, _seeds(spec))

    def _probe(self, spec: ProbeSpec) -> Iterator[Stage]:
        tickets = [
            ProbedTicket(level, replicate, ticket_path(replicate, level), self._spec(replicate, level))
            for level in sorted(set(spec.levels))
            for replicate in range(self.recipe.replicates)
        ]
        results = {f"{ticket.label}/ticket-alone": ticket.path for ticket in tickets}
        for arm in PROBES[spec.name].arms(spec, tickets, self.recipe.seed):
            path = f"probes/{spec.name}/arms/{arm.path}"
            results[arm.path] = path
            yield Stage(
                path,
                "probe-arm",
                ProbeArmSpec(
                    probe=spec.name, data=self.recipe.data, device=self.device, arm=arm.spec.model_dump(mode="json")
                ),
                parents={"ticket": arm.ticket.path, "dense": ticket_path(arm.ticket.replicate, 0)},
                seeds=arm.seeds,
            )
        summary = ProbeSummarySpec(probe=spec.name, settings=spec.model_dump(mode="json"))
        yield Stage(probe_path(spec.name), "probe", summary, parents=results, derived=True)


def training_device(wanted: str) -> str:
    """`cpu` or `cuda`. `auto` takes a GPU where there is one and torch was built for it.

    Raises:
        UnavailableError: `cuda` is asked for and not here.
    """
    usable = bool(gpus()) and "+cpu" not in metadata.version("torch")
    if wanted == "cuda" and not usable:
        raise UnavailableError(
            "compute.device: expected a CUDA device and a torch built for it, got none; `sparsify doctor` says what is "
            "missing, or set compute.device=cpu"
        )
    return "cuda" if usable and wanted != "cpu" else "cpu"


def _seeds(spec: TrainingSpec) -> dict[str, int]:
    seeds = {"init": spec.init_seed, "order": spec.order_seed}
    return seeds if spec.control_seed is None else seeds | {"control": spec.control_seed}
