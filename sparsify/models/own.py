"""A pruned network whose architecture is one's own code, as a folder: what was cut out of it, and its weights.

Whoever reads it builds the dense network first, by the code that only they have; nothing in the folder can run any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsify.errors import CorruptError, UsageError
from sparsify.masks.mask import Mask
from sparsify.models.checkpoint import load_into
from sparsify.models.history import replay_rest
from sparsify.store.atomic import write_json
from sparsify.store.weights import load_tensors, save_tensors

FILE = "pruned.json"
_WEIGHTS, _MASK = "weights.safetensors", "mask.safetensors"


def save_own(folder: Path, module: nn.Module, mask: Mask, channels: Sequence[Any], report: Mapping[str, Any]) -> None:
    """Write `module` into `folder`, which is made if it is not there.

    Args:
        folder: where.
        module: the pruned network, on any device.
        mask: what is kept.
        channels: its history (`models.history`); empty where no channel was removed.
        report: what was asked for and what came, as JSON values; for people.

    Raises:
        UsageError: hooks compute its weights anew, so that these are not what it holds.
        InputOutputError: disk full, no permission and the like.
    """
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if lost := [name for name in mask if name not in state]:
        raise UsageError(
            f"{lost[0]}: expected plain weights to save, got none of that name; remove parametrisations, "
            "prune.remove(...) and wrappers around the network first"
        )
    save_tensors(folder / _WEIGHTS, state)
    mask.save(folder / _MASK)
    write_json(folder / FILE, {"made_of": type(module).__name__, "channels": list(channels), "report": dict(report)})


def load_own(folder: Path, module: nn.Module) -> nn.Module:
    """`module` made what was saved in `folder`: cut in place and given the weights; in eval mode.

    It is dense, or as some of the cuts left it, made or loaded in this process or an earlier one: it carries which.

    Raises:
        CorruptError: the folder is damaged, or was saved of another architecture.
        UsageError: the weights do not fit the module; each that does not is listed.
    """
    path = folder / FILE
    try:
        channels = json.loads(path.read_text())["channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path}: expected the record of a pruned network, got {error!r}; save it again") from error
    state = load_tensors(folder / _WEIGHTS)
    replay_rest(module, channels)
    take_dtypes(module, state)
    load_into(module, state, str(folder / _WEIGHTS))
    return module.eval()


def take_dtypes(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Floating-point weights as wide as they were saved: a module in bfloat16 comes back in bfloat16."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        saved = state.get(name)
        if saved is not None and saved.is_floating_point() and tensor.is_floating_point():
            tensor.data = tensor.data.to(saved.dtype)
