"""A checkpoint somebody else wrote: its tensors by name, without running anything that is in it."""

from __future__ import annotations

import errno
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.models.fit import Fit, best_fit, nearly
from sparsify.models.pickle_globals import refused_global
from sparsify.store.weights import load_tensors

# Where training scripts keep the weights among other things; averaged ones count only where there are no others.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU: safetensors, or what `torch.save` wrote, old format or new.

    The kind of file is told from its bytes, not its name. A state dict under `state_dict`, `model_state_dict`,
    `model`, `net` and the like is found; optimiser states and averaged weights beside it are left.

    Raises:
        CorruptError: The file is damaged, is no checkpoint, or would run code when loaded; the message names what.
        UsageError: It holds no state dict; the message says what it holds.
        InputOutputError: It is absent or cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputOutputError(f"{path}: expected a checkpoint, got: {error.strerror or error}") from error
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return load_tensors(path)
    return _unwrap(_load_pickled(path), path)


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state into a module, every key of it and of the module; nothing is changed when they do not agree.

    Prefixes that wrappers leave (`module.`, `model.`, `_orig_mod.`) are taken off where that makes all keys agree.
    Of tied weights one copy is enough, and `num_batches_tracked`, which old checkpoints lack, is left as it is.

    Args:
        module: What is filled, in place.
        state: Tensors by name; each is cast to the module's dtype and device.
        source: What messages call the state: its file, for one.

    Raises:
        UsageError: Missing, unexpected or misshapen keys; each is listed.
    """
    fit = best_fit(module, state)
    if fit.faults:
        raise UsageError(
            f"{source}: expected the {len(fit.expected)} tensors of this {type(module).__name__}, got "
            f"{len(state)} that do not fit: {fit.faults}; {_mend(module, state, fit)}"
        )
    state = OrderedDict(fit.state)
    # Some modules (MNASNet) refuse a state that does not say which version of their layout it has: it is this one.
    state._metadata = getattr(module.state_dict(), "_metadata", None)  # pyright: ignore[reportAttributeAccessIssue]
    module.load_state_dict(state, strict=True)


def _mend(module: nn.Module, state: Mapping[str, Tensor], fit: Fit) -> str:
    """What to do about a state that does not fit: a prefix that only some of its keys have is as a rule a trainer's."""
    near = nearly(module, state)
    if near is None or near[1].cost >= fit.cost:
        return "is it the checkpoint of another architecture, or of another number of classes?"
    prefix, without = near
    counts = f"0 missing, {without.faults}" if not without.missing else without.faults
    return f"without `{prefix}`: {counts}; save the network's own keys alone, without `{prefix}`"


def _load_pickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # About pickle protocols and TorchScript; what matters of it becomes an error below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # it sought a place that the file, cut short, does not have
            raise CorruptError(
                f"{path}: expected a whole checkpoint, got one that is cut short; copy it again"
            ) from error
        raise InputOutputError(f"{path}: expected a checkpoint, got: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can make the reader raise anything
        raise CorruptError(f"{path}: {_why(path, error)}") from error


def _why(path: Path, error: Exception) -> str:
    if "TorchScript" in str(error):
        return (
            "expected weights, got a TorchScript archive, which is code; save `module.state_dict()` where you trust it"
        )
    if name := refused_global(path, str(error)):
        return (
            f"expected weights alone, got a pickle that would run code: it names {name}, so it is refused; where you "
            "trust it, load it and save `module.state_dict()` instead"
        )
    said = str(error).replace("\n", " ").strip()
    said = "it ends too early" if isinstance(error, EOFError) else said.split("WeightsUnpickler error:")[-1].strip()
    return f"expected a safetensors or torch.save file, got damaged or other bytes ({said[:160]})"


def _unwrap(value: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: expected a state dict, got {type(value).__name__}; save `module.state_dict()`")
    for key in (*WRAPPERS, *AVERAGED):
        if isinstance(value.get(key), Mapping):
            return _unwrap(value[key], path)
    tensors = {str(key): tensor.detach() for key, tensor in value.items() if isinstance(tensor, Tensor)}
    if not tensors:
        keys = [str(key) for key in value]
        raise UsageError(
            f"{path}: expected a state dict, alone or under {', '.join(WRAPPERS)}, got keys {', '.join(keys[:8])}"
            f"{' and more' if len(keys) > 8 else ''}; save `module.state_dict()`"
        )
    return tensors
