"""The bodies of the stages of `sparsify prune`; run in a worker, torch and all.

A network's folder is a ticket's folder (`network.json`, `mask.safetensors`, `weights.safetensors`) and its scores:
`score.json` with the mean, `scores.safetensors` with the metric of every validation example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsify.channels.macs import count_macs
from sparsify.channels.remove import Removed, remove_channels
from sparsify.channels.untraceable import Untraceable
from sparsify.criteria.catalogue import CRITERIA as CATALOGUE
from sparsify.criteria.registry import CRITERIA, SOLVERS, Context, Solver
from sparsify.criteria.rows import within_rows
from sparsify.data.calibration import calibration_batches
from sparsify.data.load import Data, Split
from sparsify.errors import UsageError
from sparsify.lottery.controls import shuffled_mask
from sparsify.lottery.ticket import Ticket
from sparsify.masks.mask import Mask
from sparsify.masks.outputs import select_outputs
from sparsify.masks.overrides import override_of
from sparsify.masks.select import Selection, select
from sparsify.models.build import input_axes, prunable
from sparsify.models.checkpoint import read_state
from sparsify.models.network import Network
from sparsify.models.saved import save_network
from sparsify.models.source_name import SourceName
from sparsify.models.sources import open_source
from sparsify.pipeline.prune_specs import CompareStageSpec, PruneStageSpec, RecoverStageSpec, SourceSpec
from sparsify.recipe.prune_recipe import RemovalSpec
from sparsify.seeds import derive_seed
from sparsify.store.atomic import write_json
from sparsify.store.weights import save_tensors
from sparsify.train.evaluate import evaluate
from sparsify.train.keeper import Keeper
from sparsify.train.mask_schedule import Masking, by_criterion, mask_schedule
from sparsify.train.recover import recover
from sparsify.train.removal import Removal
from sparsify.train.targets import dense_targets, without_labels
from sparsify.train.task import TASKS, Task
from sparsify.train.task_catalogue import TASKS as ENTRIES

SCORE, SCORES, REPORT, FACTS = "score.json", "scores.safetensors", "prune.json", "facts.json"


def open_dense(spec: SourceSpec, data: Data, out: Path) -> None:
    """Open the trained network and score it."""
    if _entry(spec).labelled and not data.labelled:
        raise UsageError(
            f"task {spec.task}: expected data with labels, got {spec.data.source} without; give --task agreement (or "
            "embedding), which holds the pruned network against the dense one"
        )
    module, network = open_source(
        spec.model,
        weights=None if spec.weights is None else Path(spec.weights),
        input_shape=data.input_shape,
        classes=_classes(spec, data),
        allow_import=spec.allow_import,
        seed=spec.seed,
    )
    _save(out, network, Mask.dense(module, prunable(module)), module)
    _score(out, module, _task(spec), _targets(spec, data.validation, module))


def prune_network(spec: PruneStageSpec, data: Data, parents: Mapping[str, Path], out: Path) -> None:
    """Remove what the recipe says, and nothing else: scored as it is, before any recovery."""
    dense = Ticket(parents["dense"])
    module = dense.module(allow_import=spec.source.allow_import)
    batches = _calibration(spec.source, data, module, spec.removal.calibration, spec.seed)
    if spec.removal.pattern.kind == "channel":
        network, mask, module, report = _remove(spec, dense.network, module, batches)
    else:
        network = dense.network
        mask, report = _mask(spec, module, batches)
        mask.apply_(module)
    _save(out, network, mask, module)
    write_json(out / REPORT, report)
    targets = _targets(spec.source, data.validation, dense.module(allow_import=spec.source.allow_import))
    _score(out, module, _task(spec.source), targets)


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
    module.to("cpu")
    _save(out, pruned.network, mask, module)
    write_json(out / Ticket.HISTORY, history)
    _score(out, module, _task(spec.source), targeted.validation)


def _examples(spec: RecoverStageSpec) -> int:
    """Training examples that the parts of the recovery ask for, or else the recipe's calibration."""
    asked = [part.examples for part in (spec.recovery.reconstruct, spec.recovery.recalibrate) if part is not None]
    return max(asked, default=max(spec.calibration, 1))


def _on(data: Data, device: str) -> Data:
    def on(split: Split) -> Split:
        return Split(split.images.to(device), split.labels.to(device))

    return replace(data, train=on(data.train), validation=on(data.validation))


def _masking(spec: RecoverStageSpec, module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Masking:
    """The mask's schedule over fine-tuning, scored by the recipe's criterion."""
    removal = spec.removal
    if removal.criterion in SOLVERS or removal.shuffled:
        raise UsageError(
            f"removal.schedule: expected one-shot with {'shuffled' if removal.shuffled else removal.criterion}, got "
            f"{removal.schedule.name}; choose another criterion, or prune at once"
        )
    loss = partial(_task(spec.source).loss)
    scores = by_criterion(CRITERIA[removal.criterion], batches=batches, loss=loss, seed=spec.seed)
    rule = Removal(removal.pattern, spec.sparsity, _allocation(removal), removal.overrides, input_axes(module))
    return Masking(prunable(module), mask_schedule(removal.schedule), rule, scores)


def save_model(spec: CompareStageSpec, parents: Mapping[str, Path], out: Path) -> None:
    """The folder that `sparsify.load` reads."""
    chosen = Ticket(parents["network"])
    save_network(out, chosen.module(allow_import=spec.source.allow_import), chosen.network)
    chosen.mask.save(out / Ticket.MASK)


def compare(spec: CompareStageSpec, data: Data, parents: Mapping[str, Path], out: Path) -> None:
    """Read the test set, once: the scores of dense and chosen, example by example."""
    allowed = spec.source.allow_import
    modules = {role: Ticket(folder).module(allow_import=allowed) for role, folder in parents.items()}
    test = _targets(spec.source, data.test, modules["dense"])
    scores = {role: evaluate(module, test, task=_task(spec.source)).scores for role, module in modules.items()}
    save_tensors(out / SCORES, scores)


def _classes(spec: SourceSpec, data: Data) -> int | None:
    """Classes of the data; without labels those of the checkpoint, which the source knows, or the zoo's last layer."""
    if _entry(spec).labelled:
        return data.classes
    if SourceName.parse(spec.model).kind != "zoo" or spec.weights is None:
        return None
    state = read_state(Path(spec.weights))
    heads = [name for name in state if name.endswith(("output.weight", "classifier.1.weight"))]
    return len(state[heads[0]]) if heads else None


def _entry(spec: SourceSpec) -> Any:
    if spec.task not in ENTRIES:
        raise UsageError(f"task: expected one of {', '.join(ENTRIES)}, got {spec.task!r}; see `sparsify ls tasks`")
    return ENTRIES[spec.task]


def _task(spec: SourceSpec) -> Task:
    _entry(spec)
    return TASKS[spec.task]


def _targets(spec: SourceSpec, split: Split, dense: nn.Module) -> Split:
    """The split's own labels, or the dense network's outputs where the task holds a network against it."""
    return split if _entry(spec).labelled else Split(split.images, dense_targets(dense, split.images))


def _calibration(spec: SourceSpec, data: Data, dense: nn.Module, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    if not count:
        return []
    drawn = calibration_batches(data, min(count, len(data.train)), seed)
    return [(part.images, part.labels) for x, y in drawn for part in (_targets(spec, Split(x, y), dense),)]


def _scores(spec: PruneStageSpec, module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    masked = spec.removal.pattern.kind != "channel"  # channels count in every layer that they pass
    names = tuple(name for name in prunable(module) if not masked or override_of(name, spec.removal.overrides) != 0)
    context = Context(module, names, spec.seed, batches, partial(_task(spec.source).loss))
    scores = CRITERIA[spec.removal.criterion](context)
    by_row = CATALOGUE[spec.removal.criterion].scope == "row" and spec.removal.pattern.kind == "unstructured"
    parameters = dict(module.named_parameters())
    dense = {name: torch.zeros_like(parameters[name]) for name in prunable(module) if name not in scores}
    return {
        **(within_rows(scores, input_axes(module)) if by_row else scores),
        **dense,
    }  # what stays dense is not asked, and not removed


def _mask(spec: PruneStageSpec, module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[Mask, dict[str, Any]]:
    """The mask that the criterion, pattern and allocation give; SparseGPT also moves what it keeps."""
    removal = spec.removal
    solver = SOLVERS.get(removal.criterion)
    selection = select(
        _weights(module) if solver else _scores(spec, module, batches),
        pattern=removal.pattern,
        sparsity=spec.sparsity,
        allocation=_allocation(removal),
        overrides=removal.overrides,
        axes=input_axes(module),
    )
    mask = selection.mask if solver is None else _solve(solver, spec, module, batches, selection)
    if removal.shuffled:
        mask = _shuffled(removal, mask, spec.seed)
    return mask, {"skipped": dict(selection.skipped), "emptied": [n for n, kept in mask.layer_kept.items() if not kept]}


def _solve(
    solver: Solver,
    spec: PruneStageSpec,
    module: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    selection: Selection,
) -> Mask:
    """The solver's mask with the counts of `selection`, its new weights put into `module`."""
    names = [name for name in prunable(module) if name not in selection.skipped]
    wanted = {name: 1 - selection.mask.layer_density[name] for name in names}
    mask, weights = solver(module, names, batches, pattern=spec.removal.pattern, sparsity=wanted)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
    return Mask({**{name: selection.mask[name] for name in selection.mask}, **{name: mask[name] for name in mask}})


def _shuffled(removal: RemovalSpec, mask: Mask, seed: int) -> Mask:
    if removal.pattern.kind != "unstructured":
        raise UsageError(f"removal.shuffled: expected the pattern unstructured, got {removal.pattern}; leave it out")
    return shuffled_mask(mask, derive_seed(seed, "shuffled"))


def _allocation(removal: RemovalSpec) -> Literal["global", "uniform", "erk"]:
    """What `auto` means: global where the criterion's scores can be compared over the network, else uniform."""
    if removal.allocation != "auto":
        return removal.allocation
    return "global" if CATALOGUE[removal.criterion].scope == "network" else "uniform"


def _weights(module: nn.Module) -> dict[str, Tensor]:
    parameters = dict(module.named_parameters())
    return {name: parameters[name].detach().abs() for name in prunable(module)}


def _remove(
    spec: PruneStageSpec, network: Network, module: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> tuple[Network, Mask, nn.Module, dict[str, Any]]:
    """The network without the channels that score lowest, physically smaller."""
    how = _allocation(spec.removal)
    if how == "erk":
        raise UsageError("allocation: expected global or uniform for channels, got erk; ERK spreads single weights")
    scores = _scores(spec, module, batches)
    try:
        removed: Removed = remove_channels(
            module,
            batches[0][0] if batches else network.example(),
            sparsity=spec.sparsity,
            macs=spec.macs,
            scores=scores,
            round_to=spec.removal.round_to,
            allocation=how,
            overrides=spec.removal.overrides,
        )
    except Untraceable as error:
        return _mask_channels(spec, network, module, scores, str(error))
    shrunk = replace(network, channels=[*network.channels, *removed.history])
    return shrunk, Mask.dense(removed.module, prunable(removed.module)), removed.module, removed.report.to_json()


def _mask_channels(
    spec: PruneStageSpec, network: Network, module: nn.Module, scores: Mapping[str, Tensor], why: str
) -> tuple[Network, Mask, nn.Module, dict[str, Any]]:
    """Where a network cannot be followed its channels are masked, not removed, and the report says so."""
    if spec.sparsity is None:
        raise UsageError(f"{why}; its channels can only be masked, which leaves the MACs: ask for a --sparsity")
    names = prunable(module)
    mask = select_outputs(scores, spec.sparsity, keep=names[-1:])
    mask.apply_(module)
    whole = {names[-1]: "taken for the output layer, being the last"}
    return network, mask, module, {"skipped": whole, "sparsity": mask.sparsity, "masked_because": why}


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


def _score(out: Path, module: nn.Module, task: Task, split: Split) -> None:
    device = next(module.parameters()).device
    score = evaluate(module, Split(split.images.to(device), split.labels.to(device)), task=task)
    write_json(out / SCORE, {"metric": score.metric, "value": score.value, "loss": score.loss, "examples": len(split)})
    save_tensors(out / SCORES, {"validation": score.scores})
