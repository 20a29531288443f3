"""`prune`: a smaller network out of a trained one, in one step; recovery is the caller's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from torch import nn

from sparsify.api.channels import prune_channels
from sparsify.api.choice import apply_choice, check_criterion, choose, criterion_name, default_allocation
from sparsify.api.masked import unwrapped
from sparsify.api.searched import searched_shares
from sparsify.criteria.context import Batch, Context, Loss
from sparsify.criteria.registry import Criterion
from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation, check_sparsity
from sparsify.masks.mask import Mask
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.recipe.pattern import Pattern
from sparsify.seeds import derive_seed
from sparsify.train.removal import Removal


@dataclass(frozen=True)
class PruneReport:
    """What was asked for, and what came.

    Attributes:
        pattern: as a recipe writes it.
        criterion: its name.
        allocation: `global`, `uniform`, `erk` or `searched`.
        asked: the sparsity asked for, of the layers that compete; none where the pattern sets it.
        sparsity: achieved, over all prunable weights.
        layers: parameter -> achieved sparsity, of a mask; empty for channels.
        skipped: layer -> why it was left as it is.
        metric_dense: what `evaluate` says of the given network; none without it.
        metric: what it says of the pruned one.
        channels: asked and achieved and each layer's width, for channels alone.
        masked_because: why channels are at zero and still there; empty where they are gone, or never were asked for.
    """

    pattern: str
    criterion: str
    allocation: str
    asked: float | None
    sparsity: float
    layers: Mapping[str, float]
    skipped: Mapping[str, str]
    metric_dense: float | None = None
    metric: float | None = None
    channels: Mapping[str, Any] | None = None
    masked_because: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Attributes:
        model: a new module; its removed weights are exactly zero, its removed channels gone.
        mask: what to hold while it is trained on (`Masked`); of channels, everything that is left.
        report: what was asked for, and what came.
        history: which channels went, as JSON that `models.history.replay` takes; empty for masks.
    """

    model: nn.Module
    mask: Mask
    report: PruneReport
    history: Sequence[Any] = field(default=())


def prune(
    model: nn.Module,
    *,
    sparsity: float | None = None,
    pattern: str | Pattern = "unstructured",
    criterion: str | Criterion = "magnitude",
    allocation: Allocation | Literal["searched"] | None = None,
    overrides: Mapping[str, float] | None = None,
    batches: Sequence[Batch] = (),
    loss: Loss | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    round_to: int = 1,
    shuffled: bool = False,
    seed: int = 0,
) -> Pruned:
    """Prune a trained network in one step. Returns a new one; the given one is not changed.

    Example:
        >>> pruned = sparsify.prune(model, sparsity=0.8)
        >>> with sparsify.Masked(pruned.model, pruned.mask):
        ...     finetune(pruned.model)

    Args:
        model: the network, wherever it is. Criteria that look at data, and channels, need it to map one tensor to one.
        sparsity: fraction to remove, of the layers that compete, from 0 to below 1; for n:m it follows from the
            pattern.
        pattern: `unstructured`, `n:m` (n kept of every m inputs), `block:RxC`, or `channel`, which goes for good.
        criterion: a name (`sparsify ls criteria`), or a function of a `Context` to scores, the lowest of which go.
        allocation: `global` lets layers compete, `uniform` and `erk` set their shares, `searched` measures each layer
            with `evaluate` first (see `sensitivity`). None is `global` where the criterion's scores can be compared
            across layers, else `uniform`.
        overrides: glob over parameter names -> sparsity of its own, of channels the fraction of them; 0 leaves a layer
            as it is, the longest match wins.
        batches: (inputs, targets) pairs for criteria that look at data; of channels, the first is what the result is
            checked on, and has to be real.
        loss: (output, target) -> scalar, for criteria that take gradients.
        evaluate: a network -> its metric, higher is better; leaves the network as it is. Goes into the report.
        round_to: channels left are a multiple of it, or all of a layer's; the vector width of the runtime, 8 or 16.
        shuffled: draw anew what goes within each layer, in the same counts and pattern, as a check: a criterion that
            does no better than that told nothing but the counts.
        seed: of what the criterion draws, and the shuffle.

    Raises:
        UsageError: an argument makes no sense or does not fit the network; the message says which and why.
    """
    pattern = Pattern.parse(pattern) if isinstance(pattern, str) else pattern
    check_criterion(criterion)
    if pattern.sparsity is None:
        check_sparsity(sparsity)
    work = copy.deepcopy(unwrapped(model))
    dense = None if evaluate is None else float(evaluate(work))
    names = prunable(work)
    if not names:
        raise UsageError(
            f"model: expected linear or convolution layers to prune, got {type(work).__name__} without any"
        )
    context = Context(work, names, seed, tuple(batches), loss)
    how = allocation or default_allocation(criterion)
    shares = dict(overrides or {})
    shuffle = derive_seed(seed, "shuffled") if shuffled else None
    if pattern.kind == "channel":
        pruned = _channels(context, sparsity, criterion, how, shares, round_to, shuffle)
    elif round_to != 1:
        raise UsageError(f"round_to: expected the pattern channel, whose counts it rounds, got {pattern}; leave it out")
    else:
        if how == "searched":
            if evaluate is None:
                raise UsageError(
                    "allocation searched: expected a function that measures a network, got none; give evaluate"
                )
            shares |= searched_shares(
                context, evaluate, pattern=pattern, sparsity=sparsity, criterion=criterion, overrides=shares
            )
        pruned = _mask(context, pattern, sparsity, criterion, how, shares, shuffle)
    metric = None if evaluate is None else float(evaluate(pruned.model))
    return replace(pruned, report=replace(pruned.report, metric_dense=dense, metric=metric))


def _mask(
    context: Context,
    pattern: Pattern,
    sparsity: float | None,
    criterion: str | Criterion,
    how: Allocation | Literal["searched"],
    shares: Mapping[str, float],
    shuffle: int | None,
) -> Pruned:
    allocation = "uniform" if how == "searched" else how
    removal = Removal(pattern, sparsity, allocation, shares, input_axes(context.model))
    choice = choose(context, removal, criterion, shuffle=shuffle)
    apply_choice(context.model, choice)
    layers = _sparsities(choice.mask)
    skipped = {**choice.skipped, **unprunable(context.model)}
    report = PruneReport(str(pattern), criterion_name(criterion), how, sparsity, choice.mask.sparsity, layers, skipped)
    return Pruned(context.model, choice.mask, report)


def _channels(
    context: Context,
    sparsity: float | None,
    criterion: str | Criterion,
    how: str,
    shares: Mapping[str, float],
    round_to: int,
    shuffle: int | None,
) -> Pruned:
    fewer = prune_channels(
        context,
        context.batches[0][0] if context.batches else None,
        sparsity=sparsity,
        macs=None,
        criterion=criterion,
        allocation=how,
        overrides=shares,
        round_to=round_to,
        shuffle=shuffle,
    )
    report = PruneReport(
        pattern="channel",
        criterion=criterion_name(criterion),
        allocation=how,
        asked=sparsity,
        sparsity=fewer.report["sparsity"],
        layers=_sparsities(fewer.mask) if fewer.masked_because else {},
        skipped=fewer.report["skipped"],
        channels=fewer.report,
        masked_because=fewer.masked_because,
    )
    return Pruned(fewer.module, fewer.mask, report, fewer.history)


def _sparsities(mask: Mask) -> dict[str, float]:
    return {name: 1 - density for name, density in mask.layer_density.items()}
