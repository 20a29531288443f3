"""`prune`: a smaller network out of a trained one, in one step; recovery is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from sparsify.api.channels import prune_channels
from sparsify.api.choice import apply_choice, check_criterion, choose, criterion_name, default_allocation
from sparsify.api.given import batches_of, copied, metric_of, number_of
from sparsify.api.output import Transform, check_output, restore_output, restored_output, transform_output
from sparsify.api.pruned import Pruned, PruneReport
from sparsify.api.searched import searched_shares
from sparsify.channels.preflight import check_globs, matches
from sparsify.criteria.catalogue import CRITERIA as ENTRIES
from sparsify.criteria.context import Context, Loss
from sparsify.criteria.registry import Criterion
from sparsify.errors import UsageError
from sparsify.masks.allocate import Allocation, check_sparsity
from sparsify.masks.mask import Mask
from sparsify.masks.overrides import competing, globs_of, shares_of
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.models.history import carried
from sparsify.recipe.pattern import Pattern
from sparsify.seeds import derive_seed
from sparsify.train.removal import Removal

Evaluate = Callable[[nn.Module], float]
_ALLOCATIONS = (*get_args(Allocation), "searched")


def prune(
    model: nn.Module,
    *,
    sparsity: float | None = None,
    macs: float | None = None,
    pattern: str | Pattern = "unstructured",
    criterion: str | Criterion = "magnitude",
    allocation: Allocation | Literal["searched"] | None = None,
    overrides: Mapping[str, float] | None = None,
    keep: str | Sequence[str] = (),
    batches: Iterable[Any] = (),
    loss: Loss | None = None,
    evaluate: Evaluate | None = None,
    output_transform: Transform | None = None,
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
        model: the network, wherever it is. Criteria that look at data, and channels, call it with one tensor.
        sparsity: fraction to remove, from 0 to below 1, of the layers that compete: those that the pattern fits,
            without an override of their own; for n:m it follows from the pattern. The report has what that comes to of
            all prunable weights.
        macs: instead, for channels: fraction of the multiplications that may remain, above 0 and below 1.
        pattern: `unstructured`, `n:m` (n kept of every m inputs), `block:RxC`, or `channel`, which goes for good.
        criterion: a name (`sparsify ls criteria`), or a function of a `Context` to scores, the lowest of which go.
        allocation: `global` lets layers compete, `uniform` and `erk` set their shares, `searched` measures each layer
            with `evaluate` first (see `sensitivity`). None is `global` where the criterion's scores can be compared
            across layers, else `uniform`.
        overrides: glob over layers or their weights -> sparsity of its own, of channels the fraction of them; 0
            leaves a layer as it is, the longest match wins.
        keep: globs over modules or weights that are left as they are; of channels, whose outputs stay whole, while
            inputs go with what feeds them.
        batches: (inputs, targets) pairs for criteria that look at data, from a list, a `DataLoader` or any iterable; of
            channels, the first is what the result is checked on, and has to be real. A criterion that looks at data
            gets all of them, held in memory: of a long loader give `itertools.islice(loader, 8)`.
        loss: (output, target) -> scalar, for criteria that take gradients.
        evaluate: a network -> its metric, higher is better; leaves the network as it is. Goes into the report.
        output_transform: the network's output -> the one tensor that `loss` and criteria look at, for networks that
            return something else: `lambda output: output.logits`. `evaluate` gets the network without it.
        round_to: channels left are a multiple of it, or all of a layer's; the vector width of the runtime, 8 or 16.
        shuffled: draw anew what goes within each layer, in the same counts and pattern, as a check: a criterion that
            does no better than that told nothing but the counts.
        seed: of what the criterion draws, and the shuffle.

    Raises:
        UsageError: an argument makes no sense or does not fit the network; the message says which and why.
    """
    pattern = Pattern.of(pattern)
    check_criterion(criterion)
    if allocation not in (None, *_ALLOCATIONS):
        raise UsageError(f"allocation: expected one of {', '.join(_ALLOCATIONS)}, got {allocation!r}")
    if allocation == "searched" and pattern.sparsity is not None:
        raise UsageError(
            f"allocation searched: expected unstructured or block, whose sparsity is free, got {pattern}; leave it out"
        )
    for name, value in {"sparsity": sparsity, "macs": macs}.items():
        number_of(name, value)
    for name, value in {"round_to": round_to, "seed": seed}.items():
        number_of(name, value, whole=True)
    _check_target(pattern, sparsity, macs, round_to)
    work = copied(model)
    dense = None if evaluate is None else metric_of("evaluate", evaluate(work))
    names = prunable(work)
    if not names:
        raise UsageError(
            f"model: expected linear or convolution layers to prune, got {type(work).__name__} without any"
        )
    asked = _Asked(
        pattern=pattern,
        sparsity=sparsity,
        macs=macs,
        criterion=criterion,
        allocation=allocation or default_allocation(criterion),
        overrides=shares_of("overrides", overrides),
        keep=globs_of("keep", keep),
        round_to=round_to,
        shuffle=derive_seed(seed, "shuffled") if shuffled else None,
    )
    if output_transform is not None:
        transform_output(work, output_transform)
    held = batches_of(batches, asked.batches)
    if held and asked.calls_the_network:
        check_output(work, held[0][0][:2], "batches")
    context = Context(work, names, seed, held, loss)
    pruned = _channels(context, asked) if pattern.kind == "channel" else _mask(context, asked, evaluate)
    restore_output(pruned.model)
    metric = None if evaluate is None else metric_of("evaluate", evaluate(pruned.model))
    return replace(pruned, report=replace(pruned.report, metric_dense=dense, metric=metric))


@dataclass(frozen=True)
class _Asked:
    """What `prune` was asked for, checked."""

    pattern: Pattern
    sparsity: float | None
    macs: float | None
    criterion: str | Criterion
    allocation: Allocation | Literal["searched"]
    overrides: Mapping[str, float]
    keep: tuple[str, ...]
    round_to: int
    shuffle: int | None

    @property
    def calls_the_network(self) -> bool:
        """Whether it is run on the batches, as far as is known: a function of one's own may, or may not."""
        return self.pattern.kind == "channel" or (isinstance(self.criterion, str) and self.batches is None)

    @property
    def batches(self) -> int | None:
        """How many are looked at; None for all."""
        looks = not isinstance(self.criterion, str) or ENTRIES[self.criterion].needs != "nothing"
        return None if looks else int(self.pattern.kind == "channel")


def _check_target(pattern: Pattern, sparsity: float | None, macs: float | None, round_to: int) -> None:
    if pattern.kind == "channel":
        if (sparsity is None) == (macs is None):
            got = "none" if macs is None else "both"
            raise UsageError(f"expected one target of channels, sparsity or macs, got {got}; give one")
        if macs is not None:
            return
    elif macs is not None:
        raise UsageError(f"macs: expected the pattern channel, which alone removes work, got {pattern}; give sparsity")
    elif round_to != 1:
        raise UsageError(f"round_to: expected the pattern channel, whose counts it rounds, got {pattern}; leave it out")
    if pattern.sparsity is None:
        check_sparsity(sparsity)


def _mask(context: Context, asked: _Asked, evaluate: Evaluate | None) -> Pruned:
    check_globs("keep", asked.keep, context.model)
    kept = {name: 0.0 for name in context.names for glob in asked.keep if matches(name.rpartition(".")[0], glob)}
    overrides = {**asked.overrides, **kept}
    if asked.allocation == "searched":
        if evaluate is None:
            raise UsageError(
                "allocation searched: expected a function that measures a network, got none; give evaluate"
            )
        overrides |= searched_shares(
            context,
            _of_the_given(evaluate),
            pattern=asked.pattern,
            sparsity=asked.sparsity,
            criterion=asked.criterion,
            overrides=overrides,
        )
    allocation = "uniform" if asked.allocation == "searched" else asked.allocation
    removal = Removal(asked.pattern, asked.sparsity, allocation, overrides, input_axes(context.model))
    choice = choose(context, removal, asked.criterion, shuffle=asked.shuffle)
    apply_choice(context.model, choice)
    report = PruneReport(
        pattern=str(asked.pattern),
        criterion=criterion_name(asked.criterion),
        allocation=asked.allocation,
        asked=asked.sparsity,
        achieved=_competing(choice.mask, choice.skipped, {**asked.overrides, **kept}),
        sparsity=choice.mask.sparsity,
        layers=_sparsities(choice.mask),
        skipped={**choice.skipped, **unprunable(context.model)},
    )
    return Pruned(context.model, choice.mask, report, carried(context.model))


def _competing(mask: Mask, skipped: Mapping[str, str], overrides: Mapping[str, float]) -> float:
    """The sparsity of the layers that compete, as the command judges it."""
    names = competing(mask, skipped, overrides)
    left = sum(mask.layer_kept[name] for name in names)
    return 1 - left / max(1, sum(mask[name].numel() for name in names))


def _of_the_given(evaluate: Evaluate) -> Evaluate:
    """`evaluate` of the network as its owner knows it, without an output transform."""

    def evaluated(module: nn.Module) -> float:
        with restored_output(module):
            return evaluate(module)

    return evaluated


def _channels(context: Context, asked: _Asked) -> Pruned:
    fewer = prune_channels(
        context,
        context.batches[0][0] if context.batches else None,
        sparsity=asked.sparsity,
        macs=asked.macs,
        criterion=asked.criterion,
        allocation=asked.allocation,
        overrides=asked.overrides,
        keep=asked.keep,
        round_to=asked.round_to,
        shuffle=asked.shuffle,
    )
    report = PruneReport(
        pattern="channel",
        criterion=criterion_name(asked.criterion),
        allocation=asked.allocation,
        asked=asked.sparsity,
        achieved=fewer.report["sparsity"],
        sparsity=fewer.report["sparsity"],
        layers=_sparsities(fewer.mask) if fewer.masked_because else {},
        skipped=fewer.report["skipped"],
        channels=fewer.report,
        masked_because=fewer.masked_because,
    )
    return Pruned(fewer.module, fewer.mask, report, carried(fewer.module))


def _sparsities(mask: Mask) -> dict[str, float]:
    return {name: 1 - density for name, density in mask.layer_density.items()}
