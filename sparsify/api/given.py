"""What a caller gave, checked where it enters: a copy of the network, its inputs, and plain numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sparsify.api.masked import unwrapped
from sparsify.criteria.context import Batch
from sparsify.errors import UsageError

_WRAP = (
    "a network is called with one tensor here: wrap yours in a module whose forward takes one and makes its arguments "
    "of it, such as `return self.net(input_ids=x[:, 0], attention_mask=x[:, 1])`, and prune that"
)


def copied(model: object) -> nn.Module:
    """A copy of the network, out of what wraps it, to be changed.

    Raises:
        UsageError: it is no network, lacks weights, or cannot be copied; the message says what is in the way.
    """
    if not isinstance(model, nn.Module):
        mend = "build the network and load_state_dict(...) it first" if isinstance(model, Mapping) else "give a network"
        raise UsageError(f"model: expected a torch.nn.Module, got {type(model).__name__}; {mend}")
    given = unwrapped(model)
    _refuse_without_weights(given)
    _refuse_computed(given)
    try:
        return copy.deepcopy(given)
    except Exception as error:  # whatever a module holds may refuse, in its own words
        said = next(iter(str(error).splitlines()), "")[:300]
        raise UsageError(
            f"model: expected a network that copy.deepcopy can copy, got {type(error).__name__}: {said}; take what "
            "cannot be copied out of it"
        ) from error


def batches_of(given: Iterable[Any], most: int | None = None) -> tuple[Batch, ...]:
    """(inputs, targets) pairs out of any iterable, such as a `DataLoader`; `most` of them, or all.

    Raises:
        UsageError: something in it is no such pair, or the inputs are no tensor.
    """
    told = "batches: expected an iterable of (inputs, targets) pairs"
    if isinstance(given, Tensor | Mapping | str) or not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{told}, got {type(given).__name__}; write [(inputs, targets)]")
    found: list[Batch] = []
    for batch in given if most != 0 else ():
        if not isinstance(batch, tuple | list) or len(cast("list[Any]", batch)) != 2:
            got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            if isinstance(batch, Mapping):
                got += f" with {', '.join(map(str, cast('Mapping[Any, Any]', batch)))}"
            raise UsageError(
                f"{told}, got {got} in it; write [(inputs, targets), ...], where the targets may be None if "
                f"nothing looks at them; {_WRAP}"
            )
        inputs, targets = cast("list[Any]", batch)
        found.append((inputs_of("batches", inputs), targets))
        if len(found) == most:
            break
    return tuple(found)


def inputs_of(name: str, inputs: object) -> Tensor:
    """The inputs, if they are one tensor with an axis of examples.

    Raises:
        UsageError: they are not; the message says how networks of several inputs are wrapped.
    """
    if not isinstance(inputs, Tensor):
        raise UsageError(f"{name}: expected inputs that are one tensor (N, ...), got {type(inputs).__name__}; {_WRAP}")
    if not inputs.ndim or not len(inputs):
        raise UsageError(f"{name}: expected inputs (N, ...) of some examples, got shape {tuple(inputs.shape)}")
    if not bool(inputs.isfinite().all()):
        raise UsageError(f"{name}: expected finite inputs, got nan or inf; leave those examples out")
    return inputs


def number_of(name: str, value: object, *, whole: bool = False) -> None:
    """Refuse what is no number; None passes."""
    kind = Integral if whole else Real
    if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
        what = "a whole number" if whole else "a number"
        raise UsageError(f"{name}: expected {what}, got {value!r} ({type(value).__name__}); write it without quotes")


def metric_of(name: str, value: Any) -> float:
    """What a function of the caller's measured, as a number.

    Raises:
        UsageError: it is none; `name` is the argument that the function came as.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several values is the last
        raise UsageError(
            f"{name}: expected a function that returns one number, higher is better, got {type(value).__name__}; "
            "return the one metric that counts"
        ) from None


def _refuse_without_weights(model: nn.Module) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise UsageError(f"model: expected weights, got {name} without a shape yet; run the network once first")
        if tensor.is_meta:
            raise UsageError(
                f"model: expected weights, got {name} on the device meta; load them first, for example by "
                "load_state_dict(state, assign=True)"
            )


def _refuse_computed(model: nn.Module) -> None:
    """Refuse tensors that a forward pass left in modules and that autograd would follow: they cannot be copied."""
    for path, module in model.named_modules():
        for local, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise UsageError(_told(path or "the network", module, local))


def _told(path: str, module: nn.Module, local: str) -> str:
    own = {name for name, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]}
    hooks = {
        "prune": (f"{local}_mask", f"torch.nn.utils.prune.remove(layer, {local!r})"),
        "weight_norm": (f"{local}_g", f"torch.nn.utils.remove_weight_norm(layer, {local!r})"),
        "spectral_norm": (f"{local}_u", f"torch.nn.utils.remove_spectral_norm(layer, {local!r})"),
    }
    for hook, (left, mend) in hooks.items():
        if left in own:
            return (
                f"{path}: expected plain weights, got leftover hooks of torch.nn.utils.{hook}, which compute {local} "
                f"anew; call {mend} first"
            )
    return (
        f"{path}: expected parameters, buffers and plain values, got {local}, a tensor that a forward pass computed "
        "and autograd follows; detach it, or delete it first"
    )
