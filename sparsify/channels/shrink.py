"""Remove dead channels for good: a smaller dense network with the same outputs.

A mask that happens to empty whole units makes them dead; an unstructured ticket seldom holds many. What is removed:
channels that nobody reads, and channels that arrive as exactly 0 at what follows (all their weights zero, and bias and
BatchNorm agreeing, through a ReLU where the constant is below 0). Channels with a constant above 0 stay: they act as a
bias of the next layer. The input's channels and the outputs of the last layer are never touched.

Every round is tried on a copy in float64 and kept only if the outputs agree there, where the order of summation cannot
hide a fault; otherwise it is rolled back group by group and the group is reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsify.channels.dead import Dead, dead_channels, finite, tied
from sparsify.channels.dependency import Dependencies, refuse_scripted, widths
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.errors import UsageError

# Relative to the largest output. In float64 a sum in another order differs by about 1e-15 a layer.
AGREEMENT = 1e-9

Plan = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ShrunkModel:
    """A network without its dead channels."""

    model: nn.Module
    """A new module, in evaluation mode, of the original's dtypes."""
    removed: dict[str, tuple[int, ...]]
    """For each layer that lost outputs, their indices in the original, ascending."""
    skipped: dict[str, str]
    """Layers whose channels were not considered or not removed, and why."""
    bytes: int
    """Bytes of all parameters and buffers."""


def shrink(model: nn.Module, example: Tensor) -> ShrunkModel:
    """Remove every dead channel until none is left; `model` itself is not changed.

    Args:
        model: Any module of Linear, Conv and BatchNorm layers; what else there is, or cannot be traced, is left whole
            and reported.
        example: Real inputs (N, C, H, W) on which the outputs must agree; two or more are wise.

    Raises:
        UsageError: A weight is not finite, so that equality cannot be checked.
    """
    if not finite(model):
        raise UsageError("expected finite weights, got NaN or infinity; shrink a model whose training did not diverge")
    try:
        refuse_scripted(model)
    except Untraceable as error:
        whole = copy.deepcopy(model).eval()
        return ShrunkModel(whole, {}, {error.module: f"it is {error.reason}"}, _bytes(whole))
    work = copy.deepcopy(model).double().eval().requires_grad_(False)
    if shared := list(tied(work)):
        return _finish(model, work, {}, {shared[0]: "tied weights would be parted"})
    try:
        search = _Search(work, example.double() if example.is_floating_point() else example)
    except Untraceable as error:  # code that makes float32 tensors of its own does not run in float64
        return _finish(model, work, {}, {error.module: f"it does not run in float64: {error.reason}"})
    search.to_fixed_point()
    return _finish(model, search.work, search.removed(), search.skipped)


class _Search:
    """Rounds of cutting, each verified; `work` is always equivalent to the original."""

    def __init__(self, work: nn.Module, example: Tensor) -> None:
        self.work = work
        self.skipped: dict[str, str] = {}
        self._example = example
        with naming_the_module(work):
            self._expected = _forward(work, example)
        self._refused: set[tuple[str, int]] = set()
        self._alive = {name: list(range(width)) for name, width in widths(dict(work.named_modules())).items()}
        self._initially = copy.deepcopy(self._alive)

    def to_fixed_point(self) -> None:
        try:
            while self._round(lambda dead: dead.exact) or self._round(lambda dead: dead.if_rectified):
                pass
        except Untraceable as error:
            self.skipped[error.module] = f"its channels cannot be traced, so none was removed: {error.reason}"

    def removed(self) -> dict[str, tuple[int, ...]]:
        gone = {name: sorted(set(all_) - set(self._alive[name])) for name, all_ in self._initially.items()}
        return {name: tuple(channels) for name, channels in gone.items() if channels}

    def _round(self, tier: Callable[[Dead], tuple[int, ...]]) -> bool:
        """Cut what is dead by `tier`; True if anything went."""
        plan = self._plan(tier)
        if not plan:
            return False
        if not self._fault(plan):
            return True
        taken = [self._try_alone(root, channels) for root, channels in plan.items()]  # every one, not up to the first
        return any(taken)

    def _plan(self, tier: Callable[[Dead], tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        layers = dict(self.work.named_modules())
        plan: dict[str, tuple[int, ...]] = {}
        for group in Dependencies(copy.deepcopy(self.work), self._example[:2]).groups():
            if group.obstacle:
                self.skipped[group.root] = group.obstacle
            original = self._alive[group.root]
            dead = tier(dead_channels(group, layers))
            if wanted := tuple(c for c in dead if (group.root, original[c]) not in self._refused):
                plan[group.root] = wanted
        return plan

    def _try_alone(self, root: str, channels: tuple[int, ...]) -> bool:
        original = [self._alive[root][channel] for channel in channels]
        if not (fault := self._fault({root: channels})):
            return True
        self._refused.update((root, channel) for channel in original)
        self.skipped[root] = f"{len(channels)} channels with a constant output {fault}"
        return False

    def _fault(self, plan: Plan) -> str:
        """Cut a copy; take it if shapes are as planned and the outputs agree, else leave `work` and say why."""
        candidate = copy.deepcopy(self.work)
        graph = Dependencies(candidate, self._example[:2])
        alive = {name: list(channels) for name, channels in self._alive.items()}
        for group in graph.groups():
            for name, where in group.producers.items():
                gone = {index for channel in plan.get(group.root, ()) for index in where.get(channel, ())}
                alive[name] = [original for i, original in enumerate(alive[name]) if i not in gone]
        try:
            for root, channels in plan.items():
                graph.cut(candidate, root, channels)
        except Untraceable as error:
            return f"cannot be cut: {error.reason}"
        if widths(dict(candidate.named_modules())) != {name: len(channels) for name, channels in alive.items()}:
            return "are coupled with channels that are not"
        try:
            with naming_the_module(candidate):
                output = _forward(candidate, self._example)
        except Untraceable as error:  # heads, say, whose size the network derives from a width
            return f"are counted on by what follows: without them {error.module} fails: {error.reason}"
        if not _agree(output, self._expected):
            return "matter to what follows"
        self.work, self._alive = candidate.requires_grad_(False), alive
        return ""


def _forward(model: nn.Module, example: Tensor) -> Tensor:
    with torch.no_grad():
        return model(example)


def _agree(output: Tensor, expected: Tensor) -> bool:
    if output.shape != expected.shape:
        return False
    largest = max(1.0, float(expected.abs().max()))
    return float((output - expected).abs().max()) <= AGREEMENT * largest


def _finish(
    model: nn.Module, work: nn.Module, removed: dict[str, tuple[int, ...]], skipped: dict[str, str]
) -> ShrunkModel:
    """Put dtypes and trainability back; widening to float64 and back is exact."""
    dtypes = {name: value.dtype for name, value in model.state_dict().items()}
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in work.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])
        parameter.requires_grad_(trains[name])
    for name, buffer in work.named_buffers():
        if name in dtypes:
            buffer.data = buffer.data.to(dtypes[name])
    return ShrunkModel(work, removed, skipped, _bytes(work))


def _bytes(model: nn.Module) -> int:
    return sum(value.nbytes for value in model.state_dict().values())
