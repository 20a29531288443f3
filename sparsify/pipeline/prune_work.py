"""The bodies of the stages of `sparsify prune`; run in a worker, torch and all.

A network's folder is a ticket's folder (`network.json`, `mask.safetensors`, `weights.safetensors`) and its scores:
`score.json` with the mean, `scores.safetensors` with the metric of every validation example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.api.preflight import PreflightReport
from sparsify.channels.macs import count_macs
from sparsify.criteria.catalogue import CRITERIA
from sparsify.criteria.context import Context
from sparsify.criteria.registry import CRITERIA as SCORES_BY
from sparsify.data.calibration import BATCH_SIZE, calibration_batches
from sparsify.data.load import Data, Split
from sparsify.data.preprocessing import Preprocessing
from sparsify.errors import UsageError
from sparsify.lottery.ticket import Ticket
from sparsify.masks.mask import Mask
from sparsify.models.build import prunable
from sparsify.models.network import Network
from sparsify.models.saved import save_network
from sparsify.models.sources import check_training, open_source
from sparsify.pipeline.prune_removal import remove, rule_of, survey
from sparsify.pipeline.prune_specs import CompareStageSpec, ModelStageSpec, PruneStageSpec, RecoverStageSpec, SourceSpec
from sparsify.store.atomic import write_json
from sparsify.store.weights import save_tensors
from sparsify.train.evaluate import evaluate
from sparsify.train.keeper import Keeper
from sparsify.train.mask_schedule import Masking, by_criterion, mask_schedule
from sparsify.train.recover import recover
from sparsify.train.targets import dense_targets, without_labels
from sparsify.train.task import TASKS, Task
from sparsify.train.task_catalogue import TASKS as ENTRIES

SCORE, SCORES, REPORT, FACTS = "score.json", "scores.safetensors", "prune.json", "facts.json"
PREFLIGHT = "preflight.json"
_OF_CLASSES = ("classification", "token-classification")


def opened(spec: SourceSpec, data: Data) -> tuple[nn.Module, Network]:
    """The trained network for the data that it is pruned with, and what builds it again.

    Raises:
        UsageError: the task takes labels that the data has not, or of another kind, or the source does not fit.
    """
    if _entry(spec).labelled and not data.labelled:
        raise UsageError(
            f"task {spec.task}: expected data with labels, got {spec.data.source} without; give --task agreement (or "
            "embedding), which holds the pruned network against the dense one"
        )
    if spec.task in _OF_CLASSES and data.train.labels.is_floating_point():
        raise UsageError(
            f"task {spec.task}: expected data whose labels are classes, integers, got numbers of {spec.data.source}; "
            "give --task regression, or store the labels as integers if they are classes"
        )
    module, network = open_source(
        spec.model,
        weights=None if spec.weights is None else Path(spec.weights),
        input_shape=data.input_shape,
        classes=data.classes if _entry(spec).labelled else None,
        allow_import=spec.allow_import,
        seed=spec.seed,
    )
    if bad := next((name for name, weight in module.named_parameters() if not bool(weight.isfinite().all())), None):
        raise UsageError(
            f"{spec.weights or spec.model}: expected finite weights, got nan or inf in {bad}; give a checkpoint from "
            "before the training diverged"
        )
    return module, network


def look_over(spec: PruneStageSpec, data: Data) -> tuple[PreflightReport, str]:
    """What of the network can be pruned, and why what is asked for cannot be had; empty where it can.

    Raises:
        UsageError: an override matches no layer, the network is to be trained and cannot be, or as `opened` does.
    """
    module, network = opened(spec.source, data)
    if spec.trains:
        check_training(module, network)
    drawn = min(spec.removal.calibration, len(data.train), BATCH_SIZE)
    example = calibration_batches(data, drawn, spec.seed)[0][0] if drawn else network.example()
    return survey(module, example, spec.removal, sparsity=spec.sparsity, macs=spec.macs, or_most=bool(spec.or_most))


def preflight_network(spec: PruneStageSpec, data: Data, out: Path) -> None:
    """Write down what of the network can be pruned; refuse what cannot be had."""
    found, refusal = look_over(spec, data)
    if refusal:
        raise UsageError(refusal)
    write_json(out / PREFLIGHT, found.to_json())


def open_dense(spec: SourceSpec, data: Data, out: Path) -> None:
    """Open the trained network and score it."""
    module, network = opened(spec, data)
    _save(out, network, Mask.dense(module, prunable(module)), module)
    if data.preprocessing is not None:
        data.preprocessing.save(out)
    module.to(spec.device)
    _score(out, module, _task(spec), _targets(spec, data.validation, module), chance=_chance(spec, data.validation))


def prune_network(spec: PruneStageSpec, data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Remove what the recipe says, and nothing else: scored as it is, before any recovery."""
    given = Ticket(parents["dense"])
    device = spec.source.device  # for the passes over data; criteria and the removal itself run on the CPU
    dense = given.module(allow_import=spec.source.allow_import).to(device)
    batches = _calibration(spec, data, dense)
    validation = _targets(spec.source, data.validation, dense)
    dense.to("cpu")
    task = _task(spec.source)
    context = Context(dense, prunable(dense), spec.seed, batches, task.loss, keeper.progress)
    removed = remove(
        context,
        given.network,
        spec.removal,
        sparsity=spec.sparsity,
        macs=spec.macs,
        or_most=bool(spec.or_most),
        evaluate=_minus_loss(batches, task),
    )
    _save(out, removed.network, removed.mask, removed.module)
    write_json(out / REPORT, removed.report)
    _score(out, removed.module.to(device), task, validation)


def recover_network(spec: RecoverStageSpec, data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Train, recalibrate or reconstruct the pruned network, its zeros held; or the dense one, pruned on the way."""
    device, allowed = spec.source.device, spec.source.allow_import
    pruned, given = Ticket(parents["pruned"]), Ticket(parents["dense"])
    dense = given.module(allow_import=allowed)
    at_once = spec.removal.schedule.name == "one-shot"
    module = (pruned if at_once else given).module(allow_import=allowed)
    targeted = data if _entry(spec.source).labelled else without_labels(data, dense)
    calibration = calibration_batches(targeted, min(_examples(spec), len(data.train)), spec.seed)
    mask, history = recover(
        module.to(device),
        _on(targeted, device),
        spec.recovery,
        mask=pruned.mask,
        teacher=dense.to(device),
        task=_task(spec.source),
        masking=None if at_once else _masking(spec, module, calibration),
        calibration=[(inputs.to(device), targets.to(device)) for inputs, targets in calibration],
        seed=spec.seed,
        keeper=keeper,
    )
    _save(out, pruned.network, mask, module.to("cpu"))
    write_json(out / Ticket.HISTORY, history)
    _score(out, module.to(device), _task(spec.source), targeted.validation)


def _examples(spec: RecoverStageSpec) -> int:
    """Training examples that the parts of the recovery ask for, or else the recipe's calibration."""
    asked = [part.examples for part in (spec.recovery.reconstruct, spec.recovery.recalibrate) if part is not None]
    return max(asked, default=max(spec.calibration, 1))


def _on(data: Data, device: str) -> Data:
    return replace(data, train=data.train.to(device), validation=data.validation.to(device))


def _masking(spec: RecoverStageSpec, module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Masking:
    """The mask's schedule over fine-tuning, scored by the recipe's criterion, which is none that solves."""
    removal = spec.removal
    scores = by_criterion(SCORES_BY[removal.criterion], batches=batches, loss=_task(spec.source).loss, seed=spec.seed)
    rule = rule_of(removal, module, spec.sparsity)
    return Masking(prunable(module), mask_schedule(removal.schedule), rule, scores)


def save_model(spec: ModelStageSpec, parents: Mapping[str, Path], out: Path) -> None:
    """The folder that `sparsify.load` reads, where what was removed takes no space, and how the network is fed."""
    chosen = Ticket(parents["network"])
    allowed = spec.source.allow_import
    save_network(out, chosen.module(allow_import=allowed), chosen.network, allow_import=allowed, packed=spec.packed)
    Preprocessing.load(parents["dense"]).save(out)


def compare(spec: CompareStageSpec, data: Data, parents: Mapping[str, Path], out: Path) -> None:
    """Read the test set, once: the scores of dense and chosen, example by example."""
    allowed = spec.source.allow_import
    modules = {
        role: Ticket(folder).module(allow_import=allowed).to(spec.source.device) for role, folder in parents.items()
    }
    test = _targets(spec.source, data.test, modules["dense"])
    scores = {role: evaluate(module, test, task=_task(spec.source)).scores for role, module in modules.items()}
    save_tensors(out / SCORES, scores)


def _entry(spec: SourceSpec) -> Any:
    if spec.task not in ENTRIES:
        raise UsageError(f"task: expected one of {', '.join(ENTRIES)}, got {spec.task!r}; see `sparsify ls tasks`")
    return ENTRIES[spec.task]


def _task(spec: SourceSpec) -> Task:
    _entry(spec)
    return TASKS[spec.task]


def _targets(spec: SourceSpec, split: Split, dense: nn.Module) -> Split:
    """The split's own labels, or the dense network's outputs where the task holds a network against it."""
    return split if _entry(spec).labelled else replace(split, labels=dense_targets(dense, split))


def _calibration(spec: PruneStageSpec, data: Data, dense: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """What the criterion, the allocation or the check of removed channels looks at; nothing where none does."""
    removal = spec.removal
    needed = CRITERIA[removal.criterion].needs != "nothing" or removal.allocation == "searched"
    looked_at = needed or removal.pattern.kind == "channel"
    if not removal.calibration or not looked_at:
        return []
    drawn = calibration_batches(data, min(removal.calibration, len(data.train)), spec.seed)
    return [(part.images, part.labels) for x, y in drawn for part in (_targets(spec.source, Split(x, y), dense),)]


def _minus_loss(batches: list[tuple[Tensor, Tensor]], task: Task) -> Callable[[nn.Module], float]:
    """What a searched allocation measures layers by: finer than a metric of as few examples."""

    def evaluated(module: nn.Module) -> float:
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return -evaluate(module, Split(inputs, targets), task=task).loss

    return evaluated


def _save(out: Path, network: Network, mask: Mask, module: nn.Module) -> None:
    network.save(out)
    mask.save(out / Ticket.MASK)
    save_tensors(out / Ticket.WEIGHTS, module.state_dict())
    layers = {name: {"shape": list(mask[name].shape), "kept": kept} for name, kept in mask.layer_kept.items()}
    facts = {
        "macs": count_macs(module, network.example(1)).total,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "prunable": mask.total,
        "kept": mask.kept,
        "layers": layers,
    }
    write_json(out / FACTS, facts)


def _chance(spec: SourceSpec, split: Split) -> float | None:
    """The accuracy of always naming the commonest class; None where the metric is another."""
    if not _entry(spec).labelled or split.labels.ndim != 1 or split.labels.is_floating_point():
        return None
    return int(split.labels.bincount().max()) / len(split)


def _score(out: Path, module: nn.Module, task: Task, split: Split, *, chance: float | None = None) -> None:
    score = evaluate(module, split, task=task)
    if not (math.isfinite(score.loss) and math.isfinite(score.value)):
        raise UsageError(
            f"{type(module).__name__}: expected finite outputs on the validation data, got a loss of {score.loss} and "
            f"{score.metric} {score.value}; look for a division by what is computed from weights, or by inputs, that "
            "can be zero, or remove less"
        )
    facts = {"metric": score.metric, "value": score.value, "loss": score.loss, "examples": len(split)}
    write_json(out / SCORE, facts | ({} if chance is None else {"chance": chance}))
    save_tensors(out / SCORES, {"validation": score.scores})
