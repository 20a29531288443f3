"""SparseGPT: prune each layer by what its output loses, and update what is kept to make up for it.

Frantar & Alistarh 2023 (arXiv 2301.00774). A layer's squared output error on its calibration inputs X is
tr((W - W') H (W - W')^T) with H = X X^T; `compensation.py` makes it small. As in the authors' code, a network is pruned
block after block in the order in which they run, on the inputs that the network with all earlier blocks already pruned
gives it. A block is what one number in a name stands for: `encoder.layer.3` with all its layers, or `features.0`.

Inputs are multiplied in their own precision or float32, whichever is better; sums, factors and weights are float64.
Padded tokens of a text count as any other input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from sparsify.criteria.compensation import Settings, prune_matrices
from sparsify.criteria.context import Batch, Context, Progress, silent
from sparsify.criteria.feeding import feed
from sparsify.criteria.layers import Convolution, Layer, is_transposed, layers_of
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.nm import nm_misfit
from sparsify.recipe.pattern import Pattern

NAME = "sparsegpt"
# Elements of unfolded inputs that are held at once: 64 MB in float32.
_CHUNK = 2**24


def sparsegpt(
    model: nn.Module,
    names: Sequence[str],
    batches: Sequence[Batch],
    *,
    pattern: Pattern,
    sparsity: Mapping[str, float],
    blocksize: int = 128,
    damping: float = 0.01,
    progress: Progress = silent,
) -> tuple[Mask, dict[str, Tensor]]:
    """Prune the layers of `model`, which is left as it was.

    Args:
        model: the network; it takes one tensor.
        names: weights of linear and convolution layers.
        batches: calibration (inputs (N, ...), targets) pairs; targets are not read.
        pattern: `unstructured` or `n:m`, which keeps n of m consecutive input channels.
        sparsity: name -> fraction to remove, from 0 to below 1; 0 leaves the layer dense. Under n:m every other value
            must be the pattern's own, and names may be left out.
        blocksize: columns whose removed weights are chosen together; rounded up to a multiple of m.
        damping: fraction of the mean diagonal of H that is added to it.
        progress: told the columns done, of how many in all the layers, and what is being done to which layer.

    Returns:
        The mask over `names`, and the new weights by name, on the CPU in the model's precision, zero where removed.

    Raises:
        UsageError: the pattern is another, a sparsity is missing or out of range, a layer's input axis is not a
            multiple of m, a name is no such layer, a layer never runs, there are no inputs, or H is singular undamped.
    """
    context = Context(model, tuple(names), 0, batches)
    inputs = context.inputs_for(NAME)
    layers = layers_of(context, NAME)
    settings = Settings(pattern, blocksize, damping)
    shares = {layer.name: _share(layer, context.parameters[layer.name], pattern, sparsity) for layer in layers}
    kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in context.weights.items()}
    new = {name: weight.clone() for name, weight in context.weights.items()}
    replaced: dict[str, Tensor] = {}
    pruned = [layer for layer in layers if shares[layer.name]]
    told = _Told(progress, sum(_columns(layer, new[layer.name]) for layer in pruned))
    for block in blocks(model, pruned, inputs[0]):
        hessians = _hessians(model, block, inputs, replaced, told)
        for layer in block:
            weight = context.parameters[layer.name].detach()
            matrices = layer.matrices(weight).to(torch.float64)
            told.columns(f"inverse Hessian of {layer.name}", 0)
            done = partial(told.columns, layer.name)
            hessian, share = hessians[layer.name], shares[layer.name]
            keep, solved = prune_matrices(matrices, hessian, settings, share, layer.name, done)
            told.before += _columns(layer, weight)
            replaced[context.own_names[layer.name]] = layer.tensor(solved).to(weight.dtype)
            kept[layer.name] = layer.tensor(keep).cpu()
            new[layer.name] = layer.tensor(solved).to(weight.dtype).cpu()
    return Mask(kept), new


@dataclass
class _Told:
    """Progress over all layers, counted in columns: a wide layer takes minutes."""

    progress: Progress
    total: int
    before: int = 0
    """Columns of the layers that are done."""

    def columns(self, note: str, done: int) -> None:
        """`done` columns of the layer at hand are done."""
        self.progress(self.before + done, self.total, note)


def _columns(layer: Layer, weight: Tensor) -> int:
    return layer.matrices(weight.detach()).shape[2]


def _hessians(
    model: nn.Module, layers: Sequence[Layer], inputs: Sequence[Tensor], replaced: Mapping[str, Tensor], told: _Told
) -> dict[str, Tensor]:
    """X X^T of each layer's inputs in the network with `replaced` weights: (groups, columns, columns) in float64."""
    sums: dict[str, Tensor] = {}

    def see(layer: Layer, fed: Tensor) -> None:
        told.columns(f"inputs of {layer.name}", 0)
        for part in _parts(layer, layer.examples(fed)):
            columns = layer.columns(part)
            columns = columns.to(torch.promote_types(columns.dtype, torch.float32))
            product = (columns.transpose(1, 2) @ columns).to(torch.float64)
            sums[layer.name] = sums[layer.name].add_(product) if layer.name in sums else product

    feed(model, layers, inputs, see, replaced=replaced, criterion=NAME)
    if bad := [name for name, hessian in sums.items() if not bool(torch.isfinite(hessian).all())]:
        raise UsageError(f"{NAME}: expected finite inputs of {bad[0]}, got nan or inf; check the calibration examples")
    return sums


def _parts(layer: Layer, examples: Tensor) -> Sequence[Tensor]:
    """Runs of examples short enough for their columns to be held at once."""
    kernel = prod(layer.module.kernel_size) if isinstance(layer.module, Convolution) else 1
    return examples.split(max(len(examples) * _CHUNK // max(examples.numel() * kernel, 1), 1))


def blocks(model: nn.Module, layers: Sequence[Layer], inputs: Tensor) -> list[list[Layer]]:
    """`layers` by block, blocks and layers in the order in which they first run."""
    own, order = {layer.name: layer for layer in layers}, dict[str, Layer]()

    def see(layer: Layer, _: Tensor) -> None:
        order.setdefault(layer.name, own[layer.name])

    feed(model, layers, [inputs], see, criterion=NAME)
    blocks: dict[str, list[Layer]] = {}
    for name, layer in order.items():
        blocks.setdefault(_block_of(name), []).append(layer)
    return list(blocks.values())


def _block_of(name: str) -> str:
    """`encoder.layer.3` of `encoder.layer.3.output.dense.weight`; the name itself where there is no number in it."""
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdecimal()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else name


def _share(layer: Layer, weight: Tensor, pattern: Pattern, sparsity: Mapping[str, float]) -> float:
    """The fraction to remove from a layer, checked; 0 leaves it dense."""
    share = sparsity.get(layer.name, pattern.sparsity)
    if share is None or not 0 <= share < 1:
        got = "none" if share is None else str(share)
        raise UsageError(f"{NAME}: expected a sparsity of {layer.name} from 0 to below 1, got {got}; 0 leaves it dense")
    if pattern.sparsity is None or share == 0:
        return share
    if abs(share - pattern.sparsity) > 1e-9:
        raise UsageError(
            f"{NAME}: expected {pattern.sparsity:g} for {layer.name} with pattern {pattern}, got {share}; "
            "leave it out, or give 0 to leave the layer dense"
        )
    if why := nm_misfit(weight.shape, pattern.m, 0 if is_transposed(layer.module) else 1):
        raise UsageError(f"{NAME}: {layer.name}: {why}; leave it dense with a sparsity of 0")
    return share
