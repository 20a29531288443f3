"""A network as a folder that describes itself: `network.json`, and its weights as safetensors or packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsify.errors import InputOutputError, UsageError
from sparsify.models import own
from sparsify.models.checkpoint import load_into
from sparsify.models.network import Network
from sparsify.models.own import take_dtypes
from sparsify.store.layout import MODEL, WEIGHTS
from sparsify.store.network_weights import load_weights, save_weights


def save_network(
    folder: Path, module: nn.Module, network: Network, *, allow_import: tuple[str, ...] = (), packed: bool = False
) -> None:
    """Write `module` into `folder`, after building it again from the record and comparing the outputs bit by bit.

    Args:
        folder: Where; made if it is not there.
        module: The network, on any device, with masks applied and no hooks or parametrisations left.
        network: What builds it, with the history of its channels.
        allow_import: Packages whose code may run, for `pkg.module:factory`.
        packed: Whether zeros are to take no space; else safetensors, which other tools read.

    Raises:
        UsageError: What the record builds is not this module; nothing is written.
        InputOutputError: Disk full, no permission and the like.
    """
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    again = _built(network, state, allow_import)
    if fault := _difference(module, again, network):
        raise UsageError(
            f"model {network.model}: expected a module that its record builds again, got one that differs: {fault}; "
            "save the module that `open_source` gave, changed only by masks, training and recorded channel removal"
        )
    network.save(Path(folder))
    save_weights(Path(folder), state, packed=packed)


def load(folder: str | Path, *, allow_import: tuple[str, ...] = (), model: nn.Module | None = None) -> nn.Module:
    """The plain module in a folder that a run, a ticket or `sparsify.save` wrote; on the CPU, in eval mode.

    Its outputs are bit for bit those of the module that was saved, on the same machine and release. Nothing in the
    folder can run code.

    Args:
        folder: A saved network, a ticket, or a run that has `model/`.
        allow_import: Packages whose code may run: needed where the network came from `pkg.module:factory`.
        model: The dense network, freshly built by one's own code, for what `sparsify.save` wrote; or what an earlier
            `prune` or `load` made of it. It is cut in place, given the weights, and returned, on its device.

    Raises:
        CorruptError: The folder is damaged.
        UsageError: The network needs a package that is not allowed, which the message names; or `model` where the
            folder tells how to build it, or none where it does not.
        UnavailableError: The library that has the architecture is not installed.
        InputOutputError: The folder holds no network, or the weights cannot be read.
    """
    place = Path(folder)
    if (place / own.FILE).is_file():
        if model is None:
            raise UsageError(
                f"{folder}: expected the dense network that this one was made of, since your own code builds it, got "
                "none; write sparsify.load(folder, model=...)"
            )
        return own.load_own(place, model)
    if model is not None:
        raise UsageError(f"{folder}: expected no model, since what is here builds itself, got one; leave model out")
    if not (place / Network.FILE).is_file() and (place / MODEL / Network.FILE).is_file():
        place = place / MODEL
    if not (place / Network.FILE).is_file():
        raise InputOutputError(
            f"{folder}: expected the folder of a saved network, with {Network.FILE}, got none; "
            "name model/ of a prune run"
        )
    network = Network.load(place)
    return _built(network, load_weights(place), allow_import)


def _built(network: Network, state: Mapping[str, Tensor], allow_import: tuple[str, ...]) -> nn.Module:
    module = network.build(allow_import=allow_import)
    take_dtypes(module, state)
    load_into(module, state, WEIGHTS)
    return module.eval()


def _difference(module: nn.Module, again: nn.Module, network: Network) -> str:
    """How the rebuilt module differs from the one to save, in values or in outputs; empty where it does not."""
    state = again.state_dict()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and not _same(value.cpu(), state[name]):
            return f"{name} comes back changed; is it tied to another weight in one of them?"
    training, example = module.training, network.example(2)
    dtype = next((value.dtype for value in module.parameters()), torch.float32)
    device = next((value.device for value in module.parameters()), torch.device("cpu"))
    example = example.to(dtype) if example.is_floating_point() else example
    try:
        with torch.no_grad():
            one, other = module.eval()(example.to(device)), again.to(device)(example.to(device))
    finally:
        module.train(training)
    return "" if _same(one, other) else "the outputs for one input are not the same"


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
