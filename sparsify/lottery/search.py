"""Iterative pruning with rewinding, one training at a time: the bodies of the stages `dense`, `level` and `control`.

Frankle & Carbin 2019 (arXiv 1803.03635), section 2, strategy 1: train theta_0 to theta_T, prune, reset the survivors
to theta_0, repeat. Frankle et al. 2020 (arXiv 1912.05671), section 2: reset to theta_k. Renda et al. 2020
(arXiv 2003.02389), section 3: keep the weights and replay the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sparsify.criteria.context import Context
from sparsify.criteria.registry import CRITERIA
from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.lottery.controls import random_set, shuffled_mask
from sparsify.lottery.network import Network
from sparsify.lottery.ticket import Ticket, save_ticket
from sparsify.lottery.training_spec import PruneSlice, TrainingSpec
from sparsify.masks.mask import Mask
from sparsify.masks.unstructured import keep_like, prune
from sparsify.models.build import prunable
from sparsify.recipe.step import Step
from sparsify.seeds import derive_seed
from sparsify.train.batches import steps_per_epoch
from sparsify.train.keeper import Keeper
from sparsify.train.loop import fit
from sparsify.train.schedule import lr_factor


@dataclass(frozen=True)
class Start:
    """Where a training begins: the mask, the state dict (removed weights not yet zeroed) and the schedule's step."""

    mask: Mask
    weights: dict[str, Tensor]
    step: int = 0
    constant_lr: float | None = None


def train_dense(spec: TrainingSpec, data: Data, out: Path, keeper: Keeper) -> None:
    """Train the dense network and write its folder; its rewind weights are those at the rewind step."""
    network = Network(spec.model, data.input_shape, data.classes)
    module = network.build(seed=spec.init_seed).to(spec.device)
    step = rewind_step(spec, data)
    trained = fit(module, data, spec.train, seed=spec.order_seed, snapshot_step=step, keeper=keeper)
    mask = Mask.dense(module, prunable(module))
    assert trained.snapshot is not None  # rewind_step lies before the last
    save_ticket(out, network=network, mask=mask, rewind=trained.snapshot, trained=module, history=trained.history)


def train_level(spec: TrainingSpec, data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Prune the level before, rewind, train, and write the ticket's folder.

    Args:
        spec: the level's spec.
        data: the data.
        parents: `dense` and `previous` (the level before; dense itself at level 1).
        out: folder to write into.
        keeper: checkpoints.
    """
    dense, previous = Ticket(parents["dense"]), Ticket(parents["previous"])
    rule = _rule(spec)
    mask = prune(
        previous.mask,
        _scores(spec, previous),
        fraction=rule.prune_fraction,
        overrides=rule.overrides,
        scope=rule.scope,
    )
    _train(spec, data, dense.network, _rewound(spec, data, mask, dense, previous), out, keeper)


def train_control(spec: TrainingSpec, data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Train a control beside the ticket of its level. `parents`: `dense` and `ticket` are read."""
    dense, ticket = Ticket(parents["dense"]), Ticket(parents["ticket"])
    _train(spec, data, dense.network, _control_start(spec, data, dense, ticket), out, keeper)


def _control_start(spec: TrainingSpec, data: Data, dense: Ticket, ticket: Ticket) -> Start:
    """Mask and weights of a control, as the table in `sparsify.lottery.controls` has them."""
    assert spec.control_seed is not None  # TrainingSpec gives every control a seed
    if spec.control == "shuffled-mask":
        return _rewound(spec, data, shuffled_mask(ticket.mask, spec.control_seed), dense, dense)
    if spec.control == "one-shot":
        rule = _rule(spec)
        mask = keep_like(ticket.mask, _scores(spec, dense), overrides=rule.overrides, scope=rule.scope)
        return _rewound(spec, data, mask, dense, dense)
    redrawn = dense.network.build(seed=spec.control_seed).state_dict()
    if spec.control == "random-mask":
        return Start(random_set(ticket.mask, derive_seed(spec.control_seed, "mask")), redrawn)
    return Start(ticket.mask, redrawn)


def _train(spec: TrainingSpec, data: Data, network: Network, start: Start, out: Path, keeper: Keeper) -> None:
    module = network.build(weights=start.weights)
    start.mask.apply_(module)
    rewind = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trained = fit(
        module.to(spec.device),
        data,
        spec.train,
        seed=spec.order_seed,
        mask=start.mask,
        start_step=start.step,
        constant_lr=start.constant_lr,
        keeper=keeper,
    )
    save_ticket(out, network=network, mask=start.mask, rewind=rewind, trained=module, history=trained.history)


def _rewound(spec: TrainingSpec, data: Data, mask: Mask, dense: Ticket, previous: Ticket) -> Start:
    """Where survivors restart, by the kind of rewinding."""
    if isinstance(spec.rewind, Step):
        return Start(mask, dense.rewind_weights, rewind_step(spec, data))
    if spec.rewind == "learning-rate":
        return Start(mask, previous.trained_weights)
    per_epoch = _per_epoch(spec, data)
    total = spec.train.steps.iterations(per_epoch)
    last = lr_factor(spec.train.schedule, total - 1, total=total, per_epoch=per_epoch)
    return Start(mask, previous.trained_weights, constant_lr=spec.train.optimizer.lr * last)


def _scores(spec: TrainingSpec, source: Ticket) -> dict[str, Tensor]:
    seed = derive_seed(spec.init_seed, "scores", spec.level)
    module = source.module()
    return CRITERIA[_rule(spec).criterion](Context(module, prunable(module), seed))


def _rule(spec: TrainingSpec) -> PruneSlice:
    assert spec.prune is not None  # TrainingSpec gives every level and control its rule
    return spec.prune


def rewind_step(spec: TrainingSpec, data: Data) -> int:
    """The step whose weights a ticket is rewound to; 0 for the kinds of rewinding that name no step.

    Raises:
        UsageError: it lies beyond the last step.
    """
    if not isinstance(spec.rewind, Step):
        return 0
    per_epoch = _per_epoch(spec, data)
    step, total = spec.rewind.iterations(per_epoch), spec.train.steps.iterations(per_epoch)
    if step >= total:
        mend = "rewind earlier, or train longer"
        raise UsageError(f"prune.rewind: expected a step before the end, {total}it, got {spec.rewind}; {mend}")
    return step


def _per_epoch(spec: TrainingSpec, data: Data) -> int:
    return steps_per_epoch(len(data.train.labels), spec.train.batch_size)
