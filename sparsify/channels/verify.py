"""Whether a network agrees with its masked original once channels are cut out of it: tried on copies, on real inputs.

Both run in float64, where the order of summation cannot hide a fault; a model that only runs in float32 is compared
there, less sharply.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from sparsify.channels.group import Group, Selection, removed_slices
from sparsify.channels.plan import history_of
from sparsify.channels.reference import masked
from sparsify.channels.untraceable import Untraceable, naming_the_module
from sparsify.models.history import replay, shallow

# Relative to the largest output. In float64 a sum in another order differs by about 1e-15 a layer, in float32 by 1e-7.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
JITTER = 0.5


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
        self.dtype, self._model, self._example = _in_widest(model, example)
        if jitter:
            moved = jittered(self._model)
            if bool(torch.isfinite(forward(moved, self._example)).all()):
                self._model = moved

    def fault(self, groups: Sequence[Group], selection: Selection) -> Fault | None:
        """Why removing the selection would be wrong, or None where the outputs agree."""
        cut = shallow(self._model)
        try:
            replay(cut, history_of(cut, groups, selection))
            _check_sizes(self._model, cut, groups, selection)
            with naming_the_module(cut):
                output = forward(cut, self._example)
        except Untraceable as error:
            return Fault(f"{error.module} does not run with fewer channels: {error.__cause__}", error.module)
        except ValueError as error:
            return Fault(str(error))
        expected = forward(masked(self._model, groups, selection), self._example)
        reason = self._difference(output, expected)
        return Fault(reason) if reason else None

    def _difference(self, output: Tensor, expected: Tensor) -> str:
        if output.shape != expected.shape:
            return f"the output became {tuple(output.shape)}, not {tuple(expected.shape)}"
        if not bool(torch.isfinite(output).all()):
            return "the output is no longer finite"
        largest = float(expected.abs().max())
        self.difference = float((output - expected).abs().max()) / (largest or 1.0)
        if self.difference > TOLERANCE[self.dtype]:
            return f"the smaller network differs from the masked one by {self.difference:.1e} of the largest output"
        return ""


def forward(model: nn.Module, example: Tensor) -> Tensor:
    """The output, without gradients."""
    with torch.no_grad():
        return model(example)


@torch.no_grad()
def jittered(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose floating-point parameters and running statistics are moved by a part of their deviation."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*copied.named_parameters(), *copied.named_buffers()]:
        if not value.is_floating_point() or name.endswith("running_var"):
            continue
        if isinstance(value, nn.Parameter) or name.endswith("running_mean"):
            spread = float(value.std()) if value.numel() > 1 else 0.0
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
            value.add_(noise * JITTER * (spread or 0.2))
    return copied


def _in_widest(model: nn.Module, example: Tensor) -> tuple[torch.dtype, nn.Module, Tensor]:
    """The model in evaluation mode and its inputs, in float64 where it runs there, else in float32."""
    for dtype in (torch.float64, torch.float32):
        work = copy.deepcopy(model).to(dtype).eval().requires_grad_(False)
        given = example.to(dtype) if example.is_floating_point() else example
        try:
            with naming_the_module(work):
                forward(work, given)
        except Untraceable:
            if dtype == torch.float32:
                raise
            continue
        return dtype, work, given
    raise AssertionError("the loop returns or raises")


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
