"""Layer-wise reconstruction: the kept weights that come nearest to what the dense layer gave. Needs no labels.

For each output row of a layer, with S the inputs that its mask keeps, x what the dense network feeds it and x̂ what the
pruned one does:

    ŵ_S, b̂ = argmin  Σ (w x + b - ŵ_S x̂_S - b̂)² + λ |ŵ_S - w_S|²

in closed form by the normal equations of S alone. As He et al. 2017 (arXiv 1707.06168, section 3.2) the target is the
dense output and the input is what the layers already mended really feed, so that their errors are made up for. The
ridge holds weights near their old values: with nothing removed and nothing shifted they stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from sparsify.criteria.context import Context
from sparsify.criteria.feeding import feed
from sparsify.criteria.layers import Convolution, Layer, layers_of
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.recipe.prune_spec import ReconstructSpec
from sparsify.train.normal_equations import Sums, solve

_CHUNK = 2**23  # elements of unfolded inputs held at once: 64 MB


@dataclass(frozen=True)
class LayerError:
    """Squared output error of a layer on the calibration inputs, as a fraction of the dense output's square."""

    before: float
    after: float


@torch.no_grad()
def reconstruct(
    model: nn.Module, dense: nn.Module, mask: Mask, inputs: Sequence[Tensor], spec: ReconstructSpec
) -> dict[str, LayerError]:
    """Fit the kept weights (and biases) of every layer of `mask`, in place in `model`, in the order the layers run.

    Each is fitted on what the layers before it give once they are mended; layers that are fed the same tensor (query,
    key and value), together. Removed weights are exactly zero after.

    Args:
        model: the pruned network, its mask applied.
        dense: the network it came from, of the same layers; left as it was.
        mask: of linear and convolution layers.
        inputs: calibration batches (N, ...), on the networks' device.
        spec: damping, and whether biases are fitted.

    Returns:
        Each layer's error before and after, by the name of its weight.

    Raises:
        UsageError: there are no inputs, a layer never runs or is no such layer, or a system is singular undamped.
    """
    if dense is model:
        raise UsageError(
            "reconstruct: expected a dense network apart from the model, got the model itself; copy it first"
        )
    mask.apply_(model)
    layers, targets = (layers_of(Context(net, tuple(mask), 0), "reconstruct") for net in (model, dense))
    if not inputs:
        raise UsageError("reconstruct: expected calibration inputs, got none; name data (--data SOURCE)")
    twins = {layer.name: twin for layer, twin in zip(layers, targets, strict=True)}
    errors: dict[str, LayerError] = {}
    for siblings in _in_turn(model, layers, inputs[0]):
        sums = _collect(model, dense, twins, siblings, inputs, spec.bias)
        for layer in siblings:
            errors[layer.name] = _fit(layer, mask[layer.name], sums[layer.name], spec)
    return errors


def _in_turn(model: nn.Module, layers: Sequence[Layer], inputs: Tensor) -> list[list[Layer]]:
    """`layers` in the order in which they first run; those that one tensor is fed to, one after the other, together."""
    own, turns = {layer.name: layer for layer in layers}, list[list[Layer]]()
    last, version = inputs, -1  # held, so that nothing else comes to lie in its place; in-place changes are counted

    def see(seen: Layer, fed: Tensor) -> None:
        nonlocal last, version
        layer = own[seen.name]
        if any(layer in turn for turn in turns):
            return
        same = (fed.data_ptr(), fed.shape, fed._version) == (last.data_ptr(), last.shape, version)
        if same and turns:
            turns[-1].append(layer)
        else:
            turns.append([layer])
        last, version = fed, fed._version

    feed(model, layers, [inputs], see, criterion="reconstruct")
    return turns


def _collect(
    model: nn.Module,
    dense: nn.Module,
    twins: dict[str, Layer],
    siblings: list[Layer],
    batches: Sequence[Tensor],
    bias: bool,
) -> dict[str, Sums]:
    """The sums over all calibration inputs that the normal equations of each layer are made of."""
    sums = {layer.name: Sums() for layer in siblings}
    fed: dict[str, list[tuple[Layer, Tensor]]] = {layer.name: [] for layer in siblings}

    def see_dense(twin: Layer, x: Tensor) -> None:
        fed[twin.name].append((twin, x))

    def see(layer: Layer, x_hat: Tensor) -> None:
        twin, x = fed[layer.name].pop(0)
        size = _examples_at_once(layer, x_hat)
        for part, dense_part in zip(layer.examples(x_hat).split(size), twin.examples(x).split(size), strict=True):
            sums[layer.name].add(_columns(layer, part, bias), _outputs(twin, dense_part, layer, bias))

    for batch in batches:
        feed(dense, [twins[layer.name] for layer in siblings], [batch], see_dense, criterion="reconstruct")
        feed(model, siblings, [batch], see, criterion="reconstruct")
    return sums


def _fit(layer: Layer, kept: Tensor, sums: Sums, spec: ReconstructSpec) -> LayerError:
    """Solve every row of a layer, and write the weights and the bias into it."""
    weight, bias = layer.module.get_parameter("weight"), _bias(layer, spec.bias)
    old, keep = layer.matrices(weight).double(), layer.matrices(kept.to(weight.device))
    ridge = torch.full((old.shape[2],), spec.damping * sums.mean_square(old.shape[2])).to(old)
    if bias is not None:
        old = torch.cat([old, bias.double().view(layer.groups, -1, 1)], 2)
        keep = torch.cat([keep, torch.ones_like(keep[:, :, :1])], 2)
        ridge = torch.cat([ridge, ridge.new_zeros(1)])
    groups = zip(sums.xx, sums.yx, keep, old, strict=True)
    new = torch.stack([solve(h, c, mask, w, ridge, layer.name) for h, c, mask, w in groups])
    if bias is not None:
        bias.copy_(new[:, :, -1].reshape(-1))
    weight.copy_(layer.tensor(new[:, :, : old.shape[2] - (bias is not None)]))
    return LayerError(sums.error(old), sums.error(new))


def _columns(layer: Layer, examples: Tensor, fits_bias: bool) -> Tensor:
    """What the layer multiplies with, (groups, samples, columns), float64; with the bias, ones as a last."""
    columns = layer.columns(examples).double()
    if _bias(layer, fits_bias) is None:
        return columns
    return torch.cat([columns, torch.ones_like(columns[:, :, :1])], 2)


def _outputs(twin: Layer, examples: Tensor, layer: Layer, fits_bias: bool) -> Tensor:
    """What the dense layer gives, (groups, samples, rows), less a bias of the pruned one's that stays as it is."""
    columns = _columns(twin, examples, False)
    outputs = columns @ twin.matrices(twin.module.get_parameter("weight")).mT.to(columns)
    for bias, sign in ((_bias(twin, True), 1), (None if fits_bias else _bias(layer, True), -1)):
        if bias is not None:
            outputs = outputs + sign * bias.view(layer.groups, 1, -1).to(outputs)
    return outputs


def _bias(layer: Layer, wanted: bool) -> Tensor | None:
    bias = layer.module.bias if wanted else None
    return bias if isinstance(bias, Tensor) else None


def _examples_at_once(layer: Layer, inputs: Tensor) -> int:
    """Examples whose unfolded columns are short enough to be held."""
    examples = layer.examples(inputs)
    kernel = prod(layer.module.kernel_size) if isinstance(layer.module, Convolution) else 1
    return max(len(examples) * _CHUNK // max(examples.numel() * kernel, 1), 1)
