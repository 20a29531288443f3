"""`open_source`: a text such as `torchvision:resnet18` and a checkpoint to a module and what builds it again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsify.errors import UsageError
from sparsify.models.checkpoint import load_into, read_state
from sparsify.models.network import Network
from sparsify.models.registry import REGISTRY
from sparsify.models.source import Description, Request
from sparsify.models.source_name import SourceName, kind_of


def open_source(
    source: str,
    *,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    allow_import: tuple[str, ...] = (),
    seed: int = 0,
) -> tuple[nn.Module, Network]:
    """A module in eval mode on the CPU, and the record that builds it again without the original place.

    The module was run once on a made-up input: it takes one tensor (N, *input_shape) and returns one tensor.
    Nothing is downloaded, and nothing that is read can run code.

    Args:
        source: A zoo name, `torchvision:NAME`, `timm:NAME`, `transformers:PATH#HEAD`, `plugin:NAME`, or
            `pkg.module:factory?key=value` when `allow_import` names `pkg`.
        weights: A checkpoint, as `read_state` takes it. Without: what the source carries itself (a transformers
            folder does), else initial weights from `seed`.
        input_shape: Shape of one input without the batch; needed where the source has none of its own.
        classes: Number of outputs; else the checkpoint's, else the source's own. A factory, which nobody tells it, and
            a checkpoint of torchvision's or timm's may have more: an ImageNet network on data of ten classes keeps its
            thousand, and class i is output i.
        allow_import: Packages whose code may run.
        seed: Seed of the initial weights.

    Raises:
        UsageError: No such source, it does not fit, or the checkpoint's keys do not; each is listed.
        UnavailableError: The library that has the source is not installed.
        CorruptError: The checkpoint is damaged, or would run code.
        InputOutputError: The checkpoint or folder cannot be read.
    """
    try:
        name = SourceName.parse(source)
    except ValueError as error:
        raise UsageError(f"model: {error}") from None
    kind = REGISTRY[name.kind]
    read = None if weights is None else read_state(weights)
    description = kind.describe(Request(name, input_shape, classes, allow_import), read)
    network = _record(description)
    module = network.build(seed=seed, allow_import=allow_import)
    if read is not None:
        load_into(module, kind.rename(description, module, read), str(weights))
    elif (carried := kind.carried(description)) is not None:
        load_into(module, carried, source)
    return module, replace(network, classes=check_forward(module.eval(), network))


def check_forward(module: nn.Module, network: Network) -> int:
    """Refuse a module that does not turn one tensor (N, *input_shape) into one tensor of N rows, or lacks outputs.

    Returns:
        The number of outputs; of what has further axes the number asked for, else the length of the last axis.

    Raises:
        UsageError: It fails on such an input, or returns something else; the message says what.
    """
    example = network.example(2)
    try:
        with torch.no_grad():
            output: object = module(example)
    except Exception as error:  # whatever a foreign module raises, the person must learn which input it was given
        raise UsageError(
            f"model {network.model}: expected a network that takes inputs of shape {network.input_shape}, got "
            f"{type(error).__name__}: {_first_line(error)}; give the shape of one input that it takes"
        ) from error
    if not isinstance(output, Tensor) or output.dim() < 1 or len(output) != len(example):
        got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"model {network.model}: expected one tensor of {len(example)} rows for {len(example)} inputs, got {got}; "
            "wrap the network so that it returns its logits, and name the wrapper as pkg.module:factory"
        )
    outputs = output.shape[-1] if output.dim() > 1 else 1
    if network.classes and output.dim() != 2:
        return network.classes
    more = outputs > network.classes > 0 and kind_of(network.model) != "import"  # though told how many to have
    if outputs < network.classes or more:
        raise UsageError(
            f"model {network.model}: expected an output for each of {network.classes} classes, got {outputs}; name a "
            "network with so many outputs, or data whose labels are below that"
        )
    return outputs


def check_training(module: nn.Module, network: Network) -> None:
    """Refuse a module that in training mode does not turn inputs into what it makes of them in eval mode.

    It is not changed.

    Raises:
        UsageError: It fails then, or returns something else; the message says what.
    """
    example, trial = network.example(2), copy.deepcopy(module)
    mend = (
        "wrap the network so that it returns its logits alone in both modes, and name the wrapper as "
        "pkg.module:factory; or leave out what trains (--recover none)"
    )
    with torch.random.fork_rng(devices=()), torch.no_grad():
        expected = trial.eval()(example)
        try:
            output: object = trial.train()(example)
        except Exception as error:  # whatever a foreign module raises
            raise UsageError(
                f"model {network.model}: expected a network that runs in training mode as in eval mode, got "
                f"{type(error).__name__}: {_first_line(error)}; {mend}"
            ) from error
    if not isinstance(output, Tensor) or output.shape != expected.shape:
        got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"model {network.model}: expected one tensor of shape {tuple(expected.shape)} in training mode as in eval "
            f"mode, got {got}; {mend}"
        )


def _record(description: Description) -> Network:
    options = json.loads(json.dumps(dict(description.options)))
    return Network(description.name.text, tuple(description.input_shape), description.classes, options)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
