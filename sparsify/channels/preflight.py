"""What of a network can be pruned by channels, said before anything is touched: every layer, and why not where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsify.channels.dependency import refuse_scripted
from sparsify.channels.group import Group, module_of, shown
from sparsify.channels.idle import WHY, idle_layers, idle_parameters, whole_beside
from sparsify.channels.layer_cuts import writes
from sparsify.channels.select import essential
from sparsify.channels.separate import Separated, separated
from sparsify.channels.trace import OPAQUE, trace_groups
from sparsify.channels.verify import EXAMPLES, Verifier
from sparsify.errors import UsageError
from sparsify.masks.overrides import means
from sparsify.models.history import History

Units = tuple[int, ...]
Status = Literal["prunable", "coupled", "skipped"]
TRACED = 2  # examples, enough to tell the batch from the rest
TRIED = 1  # each trial runs in float64; batches are tried on the network that is kept


@dataclass(frozen=True)
class Row:
    """One layer with weights, or a parameter of two axes or more that no such layer holds."""

    module: str
    """Its name, or that of the parameter."""
    kind: str
    """Its class, or `Parameter`."""
    width: int
    """Its output channels."""
    status: Status
    reason: str
    """What it is coupled with, or why it is skipped; empty where it is prunable by itself."""

    def __str__(self) -> str:
        said = f"coupled with {self.reason}" if self.status == "coupled" else self.status
        return f"{shown(self.module)}: {said}" + (f" ({self.reason})" if self.status == "skipped" else "")


@dataclass(frozen=True)
class Preflight:
    """Every layer of a network that holds weights, in module order, other matrices, and the groups that may be cut."""

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    rewritten: History
    """What `replay` does to the network before it has these rows and groups: all attention in separate projections."""

    @property
    def skipped(self) -> dict[str, str]:
        """Module -> why its channels stay."""
        return {row.module: row.reason for row in self.rows if row.status == "skipped"}

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as plain values."""
        return [asdict(row) for row in self.rows]


def preflight(module: nn.Module, example: Tensor, *, keep: Sequence[str] = ()) -> Preflight:
    """Which layers can lose channels, which only together with others, and which are left alone and why.

    Every group is tried on a copy, with about half its units gone, and then with fewer; a group after whose removal the
    network does not run, or does not agree with its masked original, is skipped with that reason.

    Args:
        module: Maps one tensor to one tensor; it is not changed.
        example: Inputs (N, ...), two or more, that it takes.
        keep: Globs over names of modules or weights whose outputs are left whole. The layers that give the network's
            output are kept in any case.

    Raises:
        Untraceable: The model cannot be followed; the message names the module. Fall back to a mask.
        UsageError: A glob of `keep` matches no layer.
    """
    return inspected(prepared(module, example), example, keep)[0]


def prepared(module: nn.Module, example: Tensor) -> Separated:
    """The network as its channels will be cut.

    Raises:
        Untraceable: Part of it is scripted, or it does not run on `example`.
        UsageError: Hooks compute one of its weights.
    """
    refuse_scripted(module)
    refuse_reparametrised(module)
    return separated(module, example)


def inspected(ready: Separated, example: Tensor, keep: Sequence[str]) -> tuple[Preflight, Verifier]:
    """`preflight` of a prepared network, and what it tried the groups with."""
    module = ready.module
    check_globs("keep", keep, module)
    traced, idle = _reaching(module, example)
    verifier = Verifier(module, example[:TRIED], jitter=True)
    groups = [_kept(group, keep) for group in trace_groups(module, traced)]
    groups = _verified(whole_beside(groups, module, idle, example), module, verifier)
    rows = _rows(module, groups, {**idle_layers(idle), **ready.faults})
    rows += _parameter_rows(module, groups, idle)
    return Preflight(tuple(rows), tuple(g for g in groups if not g.obstacle), ready.history), verifier


def _reaching(module: nn.Module, example: Tensor) -> tuple[Tensor, frozenset[str]]:
    """The examples to trace, more than two where those reach more layers (experts, say), and what stays idle."""
    few, more = example[:TRACED], example[:EXAMPLES]
    idle = idle_parameters(module, few)
    if idle and len(idle_by_more := idle_parameters(module, more)) < len(idle):
        return more, idle_by_more
    return few, idle


def matches(module: str, glob: str) -> bool:
    """Whether a glob means a module: by its own name, that of its weight, or that of a module around it."""
    return means(glob, f"{module}.weight" if module else "weight")


def check_globs(what: str, globs: Sequence[str], module: nn.Module) -> None:
    """Refuse a glob that matches no layer.

    Raises:
        UsageError: Naming the glob and what there is.
    """
    names = [name for name, layer in module.named_modules() if is_layer(layer)]
    for glob in globs:
        if not any(matches(name, glob) for name in names):
            raise UsageError(f"{what}: {glob!r} matches no layer; there are {', '.join(map(shown, names))}")


def is_layer(layer: nn.Module) -> bool:
    """Whether preflight has one row for all that it holds, rather than one for each of its parameters."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.Bilinear, nn.Embedding)  # pyright: ignore[reportPrivateUsage]
    return isinstance(layer, kinds) or type(layer).__name__ == "Conv1D"


def refuse_reparametrised(module: nn.Module) -> None:
    """Refuse weights that hooks compute anew: a cut would be undone at the next forward pass.

    Raises:
        UsageError: Naming the module.
    """
    for name, layer in module.named_modules():
        if hasattr(layer, "parametrizations"):
            raise UsageError(
                f"{name}: expected plain weights, got a parametrised {type(layer).__name__}; call "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, name) first"
            )
        parameters = dict(layer.named_parameters(recurse=False))
        if "weight" not in parameters and {"weight_orig", "weight_g"} & set(parameters):
            raise UsageError(
                f"{name}: expected plain weights, got leftover hooks of torch.nn.utils.prune or weight_norm; call "
                "prune.remove(layer, 'weight') or remove_weight_norm(layer) first"
            )


def _kept(group: Group, keep: Sequence[str]) -> Group:
    if group.obstacle:
        return group
    for name in group.writers:
        if glob := next((glob for glob in keep if matches(name, glob)), None):
            return replace(group, obstacle=f"kept, because {name} matches {glob!r}")
    return group


def _verified(groups: Sequence[Group], module: nn.Module, verifier: Verifier) -> list[Group]:
    """The groups, with an obstacle for each whose removal was tried and is wrong."""
    single = "it has a single unit, and no layer can have none"
    groups = [replace(g, obstacle=single) if g.units == 1 and not g.obstacle else g for g in groups]
    candidates = [group for group in groups if not group.obstacle]
    if not candidates:
        return groups
    trials = _Trials(module, verifier)
    agreeing = trials.agreeing(candidates)
    if verifier.training_fault(agreeing, {group.root: half(group) for group in agreeing}):
        verifier.trains = True  # in every trial, which then tells whose fault it is
        agreeing = trials.agreeing(candidates)
    good = {group.root: group for group in agreeing}
    return [good.get(g.root, replace(g, obstacle=trials.faults.get(g.root, g.obstacle))) for g in groups]


class _Trials:
    """Which groups can be cut together, found with as few trials as it takes; all right costs one."""

    def __init__(self, module: nn.Module, verifier: Verifier) -> None:
        self.faults: dict[str, str] = {}
        self._verifier = verifier
        self._kinds = {name: type(inner) for name, inner in module.named_modules()}

    def agreeing(self, candidates: list[Group]) -> list[Group]:
        """Those that can be cut together, by half and by other numbers of units."""
        share = {group.root: index for index, group in enumerate(candidates)}
        together = self.extend([], candidates, half)
        return self.extend([], together, lambda group: some(group, share[group.root]))

    def extend(self, good: list[Group], candidates: list[Group], going: Callable[[Group], Units]) -> list[Group]:
        """`good`, and those of `candidates` that can be cut together with it; `going` says which units are tried."""
        together = [*good, *candidates]
        fault = self._verifier.fault(together, {group.root: going(group) for group in together})
        if fault is None:
            return together
        if len(candidates) > 1:
            first, second = self._parted(candidates, fault.module)
            return self.extend(self.extend(good, first, going), second, going)
        self.faults[candidates[0].root] = fault.reason
        other = candidates[0].instead
        return self.extend(good, [other], going) if other else good

    def _parted(self, candidates: list[Group], module: str) -> tuple[list[Group], list[Group]]:
        """The candidates in two parts: what touches modules of the kind in which it went wrong comes second."""
        wrong = {name for name, kind in self._kinds.items() if kind is self._kinds.get(module)}  # none for the model
        suspects = [group for group in candidates if any(_is_inside(cut.tensor, wrong) for cut in group.cuts)]
        if 0 < len(suspects) < len(candidates):
            return [group for group in candidates if group not in suspects], suspects
        middle = len(candidates) // 2
        return candidates[:middle], candidates[middle:]


def _is_inside(tensor: str, modules: set[str]) -> bool:
    """Whether one of the modules holds the tensor, however deep."""
    parts = tensor.split(".")
    return any(".".join(parts[:depth]) in modules for depth in range(1, len(parts)))


def some(group: Group, index: int) -> Units:
    """From one unit to half of them, another number for each group: what is cut alike may agree by luck."""
    going = half(group)
    return going[: 1 + index % max(1, len(going))]


def half(group: Group) -> Units:
    """About half of a group's units, in no pattern that a wrong index mapping could share."""
    generator = torch.Generator().manual_seed(group.units)
    order: list[int] = torch.randperm(group.units, generator=generator).tolist()
    stays = essential(group, torch.ones(group.units))
    return tuple(sorted([unit for unit in order if unit not in stays][: group.units // 2]))


def _rows(module: nn.Module, groups: Sequence[Group], faults: Mapping[str, str]) -> list[Row]:
    by_writer: dict[str, Group] = {}
    for group in groups:
        for name in group.writers:
            if name not in by_writer or by_writer[name].obstacle:
                by_writer[name] = group
    through = {module_of(cut.tensor): group for group in groups for cut in group.cuts if cut.side == "through"}
    return [
        _row(name, layer, by_writer.get(name) or through.get(name), _fault(name, faults))
        for name, layer in module.named_modules()
        if is_layer(layer)
    ]


def _parameter_rows(module: nn.Module, groups: Sequence[Group], idle: frozenset[str]) -> list[Row]:
    """Of what no layer with a row holds: class tokens, positions, cells, modules with weights of their own."""
    told = {id(value) for layer in module.modules() if is_layer(layer) for value in layer.parameters(recurse=False)}
    by_tensor = {
        cut.tensor: group
        for free in (False, True)
        for group in groups
        for cut in group.cuts
        if free != bool(group.obstacle)
    }
    found: list[Row] = []
    for name, value in module.named_parameters():
        if value.ndim < 2 or id(value) in told:
            continue
        group, owner = by_tensor.get(name), module.get_submodule(module_of(name))
        if group is not None and not group.obstacle:
            found.append(Row(name, "Parameter", group.width, "coupled", group.root))
            continue
        unseen = f"a parameter of {type(owner).__name__}, which the trace does not follow"
        why = group.obstacle if group is not None else WHY if name in idle else unseen
        found.append(Row(name, "Parameter", 0, "skipped", why))
    return found


def _fault(name: str, faults: Mapping[str, str]) -> str:
    """Of an attention that stays packed, for itself and for the projection in it; empty for other modules."""
    return faults.get(name) or faults.get(name.rpartition(".")[0], "")


def _row(name: str, layer: nn.Module, group: Group | None, fault: str) -> Row:
    kind, width = type(layer).__name__, writes(layer)
    if group is None or isinstance(layer, OPAQUE):
        return Row(name, kind, width, "skipped", fault or _unseen(layer))
    if group.obstacle:
        return Row(name, kind, width, "skipped", group.obstacle)
    if group.root == name:
        return Row(name, kind, width, "prunable", "")
    return Row(name, kind, width, "coupled", group.root)


def _unseen(layer: nn.Module) -> str:
    if isinstance(layer, nn.RNNBase):
        return f"a recurrent layer ({type(layer).__name__}): its gates and its state share channels"
    return (
        "the trace did not meet it: it does not run in evaluation mode, runs without gradients, or its weight is used "
        "by other code"
    )
