"""Whether a state fits a module, under which spelling of its keys, and what is wrong where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

PREFIXES = ("module.", "model.", "net.", "network.")
COMPILED = "_orig_mod."


@dataclass(frozen=True)
class Fit:
    """A state in a module's spelling.

    Attributes:
        state: Every key of the module; complete only where there are no faults.
        expected: The module's keys.
        missing: Keys of the module that the state lacks.
        unexpected: Keys of the state that the module lacks.
        misshapen: Keys of both, with what was expected and what came.
    """

    state: Mapping[str, Tensor]
    expected: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def faults(self) -> str:
        """What is wrong, as `complaint` says it; empty where nothing is."""
        return complaint(self.missing, self.unexpected, self.misshapen)

    @property
    def cost(self) -> int:
        """How many keys are at fault."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def best_fit(module: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """The state as written if that fits best, else under the spelling that leaves the fewest faults."""
    return min((_fit(module, spelling) for spelling in _spellings(state)), key=lambda fit: fit.cost)


def complaint(missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]) -> str:
    """`2 missing (a, b); 1 unexpected (c)`: each kind of fault with its count and all its keys; empty for none."""
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    return "; ".join(f"{len(keys)} {kind} ({', '.join(keys)})" for kind, keys in kinds.items() if keys)


def nearly(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, Fit] | None:
    """The prefix whose keys alone would fit without it, but for a few, and that fit; None where there is none.

    A LightningModule's checkpoint has the network under `model.`, and beside it what its loss holds.
    """
    found: list[tuple[str, Fit]] = []
    for prefix in (*PREFIXES, COMPILED):
        shorter = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        if len(shorter) == len(state) and list(shorter) != list(state):
            found.append((prefix, _fit(module, shorter)))
    prefix, fit = min(found, key=lambda one: one[1].cost, default=("", None))
    return None if fit is None or 2 * len(fit.missing) > len(fit.expected) else (prefix, fit)


def _spellings(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """The state as it is, then with one prefix after another taken off."""
    yield state
    while (shorter := _without_prefix(state)) is not None:
        state = shorter
        yield state


def _without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    if any(COMPILED in key for key in state):
        shorter = {key.replace(COMPILED, ""): tensor for key, tensor in state.items()}
        return shorter if len(shorter) == len(state) else None
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return None


def _fit(module: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    own = module.state_dict()
    filled = dict(state)
    for name, tensor in own.items():
        if name not in filled and _may_lack(name, tensor):
            filled[name] = tensor
    for first, name in _tied(module):
        if first in filled and name in own:
            filled.setdefault(name, filled[first])
        elif name in filled and first in own:
            filled.setdefault(first, filled[name])
    return Fit(
        filled,
        expected=tuple(own),
        missing=tuple(name for name in own if name not in filled),
        unexpected=tuple(name for name in filled if name not in own),
        misshapen=tuple(f"{name}: {fault}" for name in own if (fault := _misfit(own[name], filled.get(name)))),
    )


def _may_lack(name: str, own: object) -> bool:
    """Batch counts came with PyTorch 0.4.1 and are not used; extra state that is no tensor is no weight."""
    return name.rpartition(".")[2] == "num_batches_tracked" or not isinstance(own, Tensor)


def _misfit(own: object, given: Tensor | None) -> str:
    if given is None or not isinstance(own, Tensor):
        return ""
    if own.shape != given.shape:
        return f"expected {tuple(own.shape)}, got {tuple(given.shape)}"
    if own.is_floating_point() != given.is_floating_point() or own.is_complex() != given.is_complex():
        return f"expected {own.dtype}, got {given.dtype}"
    return ""


def _tied(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Pairs of names that are one parameter: (the first, another)."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        earlier = first.setdefault(id(parameter), name)
        if earlier != name:
            yield earlier, name
