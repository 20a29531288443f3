"""Whether a network agrees with its masked original once channels are cut out of it: tried on copies, on real inputs.

Both run in float64, where the order of summation cannot hide a fault; a model that only runs in float32 is compared
there, less sharply.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from sparsify.channels.group import Group, Selection, removed_slices
from sparsify.channels.plan import history_of
from sparsify.channels.reference import masked
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.errors import CorruptError
from sparsify.models.history import History, replay, shallow, substitute

# Relative to the largest output. In float64 a sum in another order differs by about 1e-15 a layer, in float32 by 1e-7.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
EXAMPLES = 16  # at most: agreement is of structure, and more inputs only cost time
MACS = 5e9  # of all examples together, with one at the least: float64 is slow
JITTER = 0.5
PERIOD = 10_007  # of the noise: a prime, so that no two rows of a weight get the same, and cheap to draw


@dataclass(frozen=True)
class Fault:
    """What is wrong with a removal."""

    reason: str
    module: str = ""
    """Where it showed, if it is known."""


@final
class Verifier:
    """Tries removals on copies of one model.

    Args:
        model: Not changed.
        example: Real inputs (N, ...) on which the outputs must agree.
        jitter: Move every weight at random first, so that nothing hides behind zeros (a branch whose last norm starts
            at zero agrees with anything). Whether a cut is consistent does not depend on the weights' values.

    Raises:
        Untraceable: The model does not run on `example`.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, jitter: bool) -> None:
        self.difference = 0.0
        """Of the last removal tried: the largest difference, as a part of the largest output."""
        self.trains = False
        """Whether what is cut has to run in training mode too, where the network that it is cut from does."""
        self._jitter = jitter
        self.dtype = torch.float64
        if not self._converted(model, example):
            self.dtype = torch.float32  # code that makes float32 tensors of its own does not run in float64
            self._converted(model, example)

    def on(self, example: Tensor) -> Verifier:
        """The same for the weights as they are, on other inputs, and in training mode too."""
        other = copy.copy(self)
        other.trains = True
        other._model = self._given
        other._example = example.to(self.dtype) if example.is_floating_point() else example
        return other

    def fault(self, groups: Sequence[Group], selection: Selection) -> Fault | None:
        """Why removing the selection would be wrong, or None where the outputs agree."""
        cut = shallow(self._model)
        try:
            replay(cut, history_of(cut, groups, selection))
            _check_sizes(self._model, cut, groups, selection)
            with naming_the_module(cut):
                output = forward(cut, self._example)
            reference = masked(self._model, groups, selection)
            with naming_the_module(reference):
                expected = forward(reference, self._example)
        except Untraceable as error:
            return Fault(f"{error.module} does not run with fewer channels: {error.__cause__}", error.module)
        except (CorruptError, ValueError) as error:
            return Fault(str(error))
        if reason := self._difference(output, expected):
            return Fault(reason)
        return self._training_fault(cut) if self.trains else None

    def training_fault(self, groups: Sequence[Group], selection: Selection) -> Fault | None:
        """Why a network with the selection removed does not run in training mode, though the whole one does."""
        return self._training_fault(replay(shallow(self._model), history_of(self._model, groups, selection)))

    def _training_fault(self, cut: nn.Module) -> Fault | None:
        error = in_training(copy.deepcopy(cut), self._example)
        if error is None or in_training(copy.deepcopy(self._model), self._example):
            return None
        reason = f"{error.module} does not run with fewer channels in training mode: {error.__cause__}"
        return Fault(reason, error.module)

    def changed(self, history: History) -> Fault | None:
        """Why a history that should change nothing changes the outputs, or None where they agree."""
        expected = forward(self._model, self._example)  # without hooks: they would keep torch off its fast path
        try:
            rewritten = replay(shallow(self._model), history)
            with naming_the_module(rewritten):
                output = forward(rewritten, self._example)
        except Untraceable as error:
            return Fault(f"{error.module} does not run with it: {error.__cause__}", error.module)
        reason = self._difference(output, expected, "the network", "what it was")
        return Fault(reason) if reason else None

    def _converted(self, model: nn.Module, example: Tensor) -> bool:
        """Take the model and its inputs in `dtype`; whether it runs so, once its weights are moved if they may be."""
        self._given = copy.deepcopy(model).to(self.dtype).eval().requires_grad_(False)
        self._model = jittered(self._given) if self._jitter else self._given
        self._example = example.to(self.dtype) if example.is_floating_point() else example
        try:
            with naming_the_module(self._model):
                output = forward(self._model, self._example[:1])
        except Untraceable:
            if self.dtype == torch.float32:
                raise
            return False
        if not bool(torch.isfinite(output).all()):
            self._model = self._given
        return True

    def _difference(
        self, output: Tensor, expected: Tensor, one: str = "the smaller network", other: str = "the masked one"
    ) -> str:
        if output.shape != expected.shape:
            return f"the output became {tuple(output.shape)}, not {tuple(expected.shape)}"
        if not bool(torch.isfinite(output).all()):
            return "the output is no longer finite"
        if not bool(torch.isfinite(expected).all()):
            return f"{other} gives no finite output to compare with: zeros in place of weights are not silent in it"
        largest = float(expected.abs().max())
        self.difference = float((output - expected).abs().max()) / (largest or 1.0)
        if not self.difference <= TOLERANCE[self.dtype]:
            return f"{one} differs from {other} by {self.difference:.1e} of the largest output"
        return ""


def affordable(example: Tensor, macs: int) -> Tensor:
    """As many of the examples as are worth the time for a network that takes `macs` MACs for each."""
    return example[: max(1, min(EXAMPLES, int(MACS / max(1, macs))))]


def forward(model: nn.Module, example: Tensor) -> Tensor:
    """The output, without gradients.

    Raises:
        TypeError: It is no tensor.
    """
    with torch.no_grad():
        output: object = model(example)
    if not isinstance(output, Tensor):
        raise TypeError(f"an output of type {type(output).__name__}: wrap the model so that it returns one tensor")
    return output


@torch.no_grad()
def in_training(model: nn.Module, example: Tensor) -> Untraceable | None:
    """What a forward pass in training mode raises, or None; the global random state is not changed.

    Args:
        model: It is left in training mode, with whatever that changes of it; hand in a copy.
        example: Inputs (N, ...); one alone is given twice, since a batch norm in training mode takes two.
    """
    batch = example if len(example) > 1 else torch.cat([example, example])
    devices = [example.device] if example.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), naming_the_module(model):
            torch.manual_seed(0)  # the same layers are dropped every time, where any are
            model.train()(batch)
    except Untraceable as error:
        return error
    return None


@torch.no_grad()
def jittered(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose floating-point parameters and running means are moved by a part of their deviation."""
    copied = shallow(model)
    noise = torch.randn(PERIOD, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = [name for name, value in model.named_parameters() if value.is_floating_point()]
    moved += [name for name, _ in model.named_buffers() if name.endswith("running_mean")]
    substitute(copied, dict.fromkeys(moved, partial(_moved, noise=noise)))
    return copied


def _moved(value: Tensor, *, noise: Tensor) -> Tensor:
    flat = value.flatten()
    spread = float(flat[:PERIOD].std()) if value.numel() > 1 else 0.0
    repeated = noise.to(value).repeat(-(-value.numel() // PERIOD))[: value.numel()]
    return repeated.mul_(JITTER * (spread or 0.2)).add_(flat).view(value.shape)


def _check_sizes(before: nn.Module, after: nn.Module, groups: Sequence[Group], selection: Selection) -> None:
    """Every tensor must have lost exactly what the plan says, and no other anything."""
    planned = removed_slices(groups, selection)
    sizes = {name: tuple(value.shape) for name, value in after.state_dict().items()}
    tied = {id(value): name for name, value in reversed(before.state_dict(keep_vars=True).items())}
    for name, value in before.state_dict(keep_vars=True).items():
        first = tied[id(value)]
        expected = tuple(size - len(planned.get((first, axis), ())) for axis, size in enumerate(value.shape))
        if sizes.get(name) != expected:
            raise ValueError(f"{name} became {sizes.get(name)}, where {expected} was planned")
