"""A layer as the matrix product that it is: W X with X the inputs, for criteria that look at what a layer is fed.

A linear layer is one matrix (out, in). A convolution with g groups is g of them, (out/g, k * in/g) with k positions of
the kernel, applied to the unfolded input. Columns run over kernel positions first and channels within a position last,
so that m consecutive columns are m consecutive input channels, which is what n:m patterns are made of. A transformers
`Conv1D` is a linear layer whose weight is stored transposed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsify.criteria.context import Context
from sparsify.errors import UsageError

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class Layer:
    """A linear or convolution layer by the name of its weight.

    Attributes:
        name: the weight's name in the network.
        module: the layer.
    """

    name: str
    module: nn.Module

    @property
    def groups(self) -> int:
        """Number of matrices that the layer applies side by side."""
        return self.module.groups if isinstance(self.module, Convolution) else 1

    def matrices(self, weight: Tensor) -> Tensor:
        """A tensor of the weight's shape as (groups, rows, columns)."""
        if isinstance(self.module, Convolution):
            last = weight.movedim(1, -1)  # (out, *kernel, in/groups)
            return last.reshape(self.groups, last.shape[0] // self.groups, -1)
        return (weight.T if is_transposed(self.module) else weight).unsqueeze(0)

    def tensor(self, matrices: Tensor) -> Tensor:
        """The inverse of `matrices`: (groups, rows, columns) in the weight's shape, contiguous."""
        if isinstance(self.module, Convolution):
            out, channels, *kernel = self.module.weight.shape
            return matrices.reshape(out, *kernel, channels).movedim(-1, 1).contiguous()
        return (matrices[0].T if is_transposed(self.module) else matrices[0]).contiguous()

    def examples(self, inputs: Tensor) -> Tensor:
        """The layer's inputs with one leading axis of examples: (N, channels, ...) or (N, features)."""
        if isinstance(self.module, Convolution):
            return inputs if inputs.dim() == len(self.module.kernel_size) + 2 else inputs.unsqueeze(0)
        return inputs.reshape(-1, inputs.shape[-1])

    def columns(self, examples: Tensor) -> Tensor:
        """`examples` as (groups, samples, columns): the layer computes columns @ matrices^T, plus its bias."""
        return _unfold(self.module, examples) if isinstance(self.module, Convolution) else examples.unsqueeze(0)

    def called(
        self,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        **_: object,
    ) -> Layer:
        """The convolution as `torch.nn.functional` was called for it, where its own forward decided that."""
        module = copy.copy(self.module)
        assert isinstance(self.module, Convolution)
        kernel = self.module.kernel_size
        axes, steps = len(kernel), _each(dilation, len(kernel))
        if isinstance(padding, str):
            both = [0 if padding == "valid" else d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
            sides = [(total // 2, total - total // 2) for total in both]
        else:
            sides = [(width, width) for width in _each(padding, axes)]
        around = [width for side in reversed(sides) for width in side]
        said = {"padding_mode": "zeros", "_reversed_padding_repeated_twice": around}
        vars(module).update(said, stride=_each(stride, axes), dilation=steps)
        return replace(self, module=module)

    def square_sums(self, inputs: Tensor) -> Tensor:
        """Sum of squares of each column over all samples of `inputs`, (groups, columns), in float64."""
        squares = self.examples(inputs).to(torch.float64).square().sum(0, keepdim=True)
        return self.columns(squares).sum(1)


def layers_of(context: Context, criterion: str) -> tuple[Layer, ...]:
    """The layers whose weights `context` names, in its order.

    Raises:
        UsageError: a name is not the weight of a linear or convolution layer, or two names are one tied weight.
    """
    own = context.own_names
    modules = dict(context.model.named_modules(remove_duplicate=False))
    layers: list[Layer] = []
    for name in context.names:
        module = modules.get(name.rpartition(".")[0])
        is_layer = isinstance(module, nn.Linear | Convolution) or (module is not None and is_transposed(module))
        if module is None or not is_layer or name.rpartition(".")[2] != "weight":
            got = f"{name} of {type(module).__name__ if module is not None else 'no layer'}"
            raise UsageError(
                f"{criterion}: expected the weight of a Linear, Conv or transformers Conv1D layer, got {got}; "
                'leave it dense ("' + name + '": 0) or take a criterion that reads weights alone'
            )
        if twins := [other for other in own if other != name and own[other] == own[name]]:
            raise UsageError(
                f"{criterion}: expected weights of layers of their own, got {name} tied to {twins[0]}, which are fed "
                f'different inputs; leave one dense ("{twins[0]}": 0)'
            )
        layers.append(Layer(name, module))
    return tuple(layers)


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """A value for each axis, as torch reads one value or one alone in a sequence."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def is_transposed(module: nn.Module) -> bool:
    """Whether it is a transformers `Conv1D`, weight (in, out); told without importing transformers."""
    return any(
        each.__name__ == "Conv1D" and each.__module__ == "transformers.pytorch_utils" for each in type(module).__mro__
    )


def _unfold(module: Convolution, examples: Tensor) -> Tensor:
    """Patches (groups, examples * positions, kernel positions * channels) that the convolution multiplies with."""
    spatial = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(examples, module._reversed_padding_repeated_twice, mode=mode)  # pyright: ignore[reportPrivateUsage]
    for axis in range(spatial):
        span = (module.kernel_size[axis] - 1) * module.dilation[axis] + 1
        padded = padded.unfold(2 + axis, span, module.stride[axis])[..., :: module.dilation[axis]]
    count, channels, *positions = padded.shape  # positions of the output, then of the kernel
    grouped = padded.reshape(count, module.groups, channels // module.groups, *positions)
    last = grouped.movedim(1, 0).movedim(2, -1)  # (groups, examples, *output, *kernel, channels/groups)
    return last.reshape(module.groups, count * prod(positions[:spatial]), -1)
