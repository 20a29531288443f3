"""Before channels go: every `nn.MultiheadAttention` becomes one that can lose heads, where that changes nothing else.

That is the first step of a network's channel history, for those of which something then goes. It is tried on real
inputs, as every cut is, because it may be seen from outside: code may read the packed weights, or count on the zeros
that torch's fast path leaves at padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sparsify.channels.macs import count_macs
from sparsify.channels.trace import tied_names
from sparsify.channels.untraceable import naming_the_module
from sparsify.channels.verify import Verifier, affordable
from sparsify.models.history import SEPARATED, History, replay, shallow


@dataclass(frozen=True)
class Separated:
    """A network whose attention is ready to lose heads."""

    module: nn.Module
    """The given module, or a copy that shares with it every tensor that is not packed."""
    history: History = field(default_factory=list[dict[str, Any]])
    """What `replay` makes of the given module to get it."""
    faults: Mapping[str, str] = field(default_factory=dict[str, str])
    """`nn.MultiheadAttention` that stays -> why."""


def separated(module: nn.Module, example: Tensor) -> Separated:
    """`module` with its attention in separate projections; it is not changed itself.

    Args:
        module: Maps one tensor to one tensor.
        example: Real inputs (N, ...); where any of them can hold padding, some that do.

    Raises:
        Untraceable: The module does not run on `example`.
    """
    packed = [name for name, inner in module.named_modules() if isinstance(inner, nn.MultiheadAttention)]
    faults = {name: fault for name in packed if (fault := _obstacle(module, name))}
    history: History = [{"module": name, "becomes": SEPARATED} for name in packed if name not in faults]
    if not history:
        return Separated(module, [], faults)
    with naming_the_module(module):
        macs = count_macs(module, example[:1]).total
    if fault := Verifier(module, affordable(example, macs), jitter=True).changed(history):
        why = (
            f"it cannot be taken apart into separate projections: {fault.reason}; does code read its packed weights, "
            "or what it gives at padding?"
        )
        return Separated(module, [], dict.fromkeys(packed, why) | faults)
    return Separated(replay(shallow(module), history), history, faults)


def _obstacle(module: nn.Module, name: str) -> str:
    """Why an attention module has to stay as it is; empty where it need not."""
    packed = module.get_submodule(name)
    if type(packed) is not nn.MultiheadAttention:
        return f"{type(packed).__name__} is not torch's own nn.MultiheadAttention, and may compute something else"
    if packed._forward_hooks or packed._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
        return "it has forward hooks, which would be lost when it is taken apart; remove them first"
    if shared := [local for local in tied_names(module) if local.rpartition(".")[0] == name]:
        return f"{shared[0]} is tied to another weight"
    return ""
