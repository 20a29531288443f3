"""What each kind of stage does. Run in a worker; torch and the rest are imported here, when there is work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.errors import SparsifyError
from sparsify.pipeline.stage_specs import ExportStageSpec, LatencyStageSpec, ProbeArmSpec, ProbeSummarySpec, TestSpec
from sparsify.recipe.spec import DataSpec
from sparsify.store.atomic import write_json

if TYPE_CHECKING:
    from sparsify.data.load import Data
    from sparsify.train.keeper import Keeper


def work(kind: str, spec: Mapping[str, Any], parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Do one stage: read `spec` and the `parents`' folders, write into `out`."""
    match kind:
        case "dense" | "level" | "control":
            _train(kind, spec, parents, out, keeper)
        case "probe-arm":
            _probe_arm(spec, parents, out, keeper)
        case "probe":
            _conclude(spec, parents, out)
        case "test":
            _test(spec, parents, out)
        case "export":
            _export(spec, parents, out)
        case "latency":
            _latency(spec, parents, out)
        case "preflight" | "source" | "prune" | "recover" | "model" | "compare":
            _prune(kind, spec, parents, out, keeper)
        case _:
            raise SparsifyError(f"no such kind of stage: {kind}")


@lru_cache(maxsize=2)
def _loaded(spec: str, device: str, trained: bool) -> Data:
    """The data, read once a process and kept on the device."""
    from sparsify.data.load import load

    data = load(DataSpec.model_validate_json(spec), trained=trained)
    train, validation, test = (split.to(device) for split in (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test)


def _data(spec: DataSpec, device: str, *, trained: bool = False) -> Data:
    return _loaded(spec.model_dump_json(), device, trained)


def _train(kind: str, values: Mapping[str, Any], parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    from sparsify.lottery.search import train_control, train_dense, train_level
    from sparsify.lottery.training_spec import TrainingSpec

    spec = TrainingSpec.model_validate(values)
    data = _data(spec.data, spec.device)
    if kind == "dense":
        train_dense(spec, data, out, keeper)
    elif kind == "level":
        train_level(spec, data, parents, out, keeper)
    else:
        train_control(spec, data, parents, out, keeper)


def _probe_arm(values: Mapping[str, Any], parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    from sparsify.probes.registry import PROBES

    spec = ProbeArmSpec.model_validate(values)
    PROBES[spec.probe].measure(spec.arm, _data(spec.data, spec.device), parents, out, keeper)


def _conclude(values: Mapping[str, Any], parents: Mapping[str, Path], out: Path) -> None:
    from sparsify.probes.registry import PROBES

    spec = ProbeSummarySpec.model_validate(values)
    write_json(out / "result.json", PROBES[spec.probe].conclude(spec.settings, parents))


def _test(values: Mapping[str, Any], parents: Mapping[str, Path], out: Path) -> None:
    """Read the test set once: every ticket whose accuracy is reported, after all choices are made."""
    from sparsify.lottery.ticket import Ticket
    from sparsify.train.evaluate import evaluate

    spec = TestSpec.model_validate(values)
    test = _data(spec.data, spec.device).test
    scores = {role: evaluate(Ticket(folder).module().to(spec.device), test) for role, folder in parents.items()}
    write_json(out / "test.json", {role: {"accuracy": s.accuracy, "loss": s.loss} for role, s in scores.items()})


def _prune(kind: str, values: Mapping[str, Any], parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    from sparsify.pipeline import prune_specs, prune_work

    if kind == "preflight":
        spec = prune_specs.PruneStageSpec.model_validate(values)
        prune_work.preflight_network(spec, _data(spec.source.data, "cpu", trained=True), out)
    elif kind == "source":
        from sparsify_export.ticket_export import export_dense

        source = prune_specs.SourceSpec.model_validate(values)
        data = _data(source.data, "cpu", trained=True)
        prune_work.open_dense(source, data, out)
        export_dense(out, data, allow_import=source.allow_import)
    elif kind == "prune":
        spec = prune_specs.PruneStageSpec.model_validate(values)
        prune_work.prune_network(spec, _data(spec.source.data, "cpu", trained=True), parents, out, keeper)
    elif kind == "recover":
        spec = prune_specs.RecoverStageSpec.model_validate(values)
        prune_work.recover_network(spec, _data(spec.source.data, "cpu", trained=True), parents, out, keeper)
    elif kind == "model":
        prune_work.save_model(prune_specs.ModelStageSpec.model_validate(values), parents, out)
    else:
        spec = prune_specs.CompareStageSpec.model_validate(values)
        prune_work.compare(spec, _data(spec.source.data, "cpu", trained=True), parents, out)


def _export(values: Mapping[str, Any], parents: Mapping[str, Path], out: Path) -> None:
    from sparsify_export.sparse.options import DEFAULTS
    from sparsify_export.targets import TARGETS
    from sparsify_export.ticket_export import export_ticket

    spec = ExportStageSpec.model_validate(values)
    export_ticket(
        parents["ticket"],
        parents["dense"],
        out,
        target=TARGETS[spec.target],
        batch_sizes=spec.batch_sizes,
        data=_data(spec.data, "cpu", trained=spec.trained),
        allow_import=spec.allow_import,
        sparse_options=spec.sparse or DEFAULTS,
    )


def _latency(values: Mapping[str, Any], parents: Mapping[str, Path], out: Path) -> None:
    from sparsify_export.latency import measure_target
    from sparsify_export.targets import TARGETS
    from sparsify_export.targets.opening import why_not_run

    spec = LatencyStageSpec.model_validate(values)
    target = TARGETS[spec.target]
    if (missing := why_not_run(target)) is not None:
        write_json(out / "latency.json", {"status": f"built, not run: {missing}"})
        return
    write_json(out / "latency.json", measure_target(parents["export"], target=target, spec=spec.latency).to_json())
