"""What layers are fed: run a network on inputs and show each layer's input as it comes by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sparsify.criteria.layers import Layer
from sparsify.criteria.untouched import untouched
from sparsify.errors import UsageError

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_ARGUMENTS = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "dilation",
    "groups",
)  # of a linear product the first three
# (layer, its input as its forward takes it); called once for each time the layer runs. Of a convolution with a forward
# of its own the layer is `called` as that calls for it, and the input as it then is: its name is the layer's.
See = Callable[[Layer, Tensor], None]


def feed(
    model: nn.Module,
    layers: Sequence[Layer],
    inputs: Iterable[Tensor],
    see: See,
    *,
    replaced: Mapping[str, Tensor] | None = None,
    criterion: str,
) -> None:
    """Run `model` in eval mode on each of `inputs`; `see` gets every input of every one of `layers`.

    Args:
        model: the network, which is left as it was.
        layers: the layers to watch.
        inputs: batches of inputs (N, ...).
        see: called without gradients, while the network runs.
        replaced: tensors by parameter name to take the place of the network's.
        criterion: who asks, for messages.

    Raises:
        UsageError: a layer never ran.
    """
    seen: set[str] = set()

    def note(layer: Layer, fed: Tensor) -> None:
        seen.add(layer.name)
        see(layer, fed.detach())

    with torch.no_grad(), untouched(model) as call, _watched(model, layers, note):
        for each in inputs:
            call(replaced or {}, each)
    if silent := [layer.name for layer in layers if layer.name not in seen]:
        raise UsageError(
            f"{criterion}: expected every layer to run on the calibration inputs, got none for {', '.join(silent)}: "
            f'unused, or its weight is read without calling it; leave it dense ("{silent[0]}": 0) or take a criterion '
            "that reads weights alone"
        )


@contextlib.contextmanager
def _watched(model: nn.Module, layers: Sequence[Layer], see: See) -> Generator[None]:
    """Hooks on `layers`, removed at the end, and an ear for products that no hook shows; see `_Direct`."""
    attention = {id(module.out_proj): module for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    direct = _Direct(layers, see)
    with contextlib.ExitStack() as hooks, direct:
        for layer in layers:
            if parent := attention.get(id(layer.module)):
                handles = [parent.register_forward_hook(_projected(layer, see), with_kwargs=True)]
            else:
                own_way = _computes_its_own_way(layer.module)
                before = _before(layer, direct.expect if own_way else see, direct.running)
                handles = [
                    layer.module.register_forward_pre_hook(before, with_kwargs=True),
                    layer.module.register_forward_hook(_after(layer, direct), always_call=True),
                ]
            for handle in handles:
                hooks.callback(handle.remove)
        yield


def _before(layer: Layer, see: See, running: set[str]) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.add(layer.name)
        see(layer, args[0] if args else next(iter(kwargs.values())))

    return hook


def _after(layer: Layer, direct: _Direct) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: object) -> None:
        direct.running.discard(layer.name)
        direct.settle(layer)

    return hook


def _computes_its_own_way(module: nn.Module) -> bool:
    """Whether it is one of torch's layers with another forward: what that multiplies need not be what it is given."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, kinds) and type(module).forward not in [kind.forward for kind in kinds]


@final
class _Direct(TorchFunctionMode):
    """Sees `linear(input, layer.weight)` where it is not the layer that calls it, as in torchvision's Swin.

    And what a layer multiplies that computes its own way: timm's `Conv2dSame` pads what it is given first. Where no
    product with its weight, or with one of that shape made of it, comes by, what it is given is shown.

    Attributes:
        running: names of the layers that are running now; what they call is theirs.
    """

    def __init__(self, layers: Sequence[Layer], see: See) -> None:
        super().__init__()
        self._layers, self._see = layers, see
        self._expected: dict[str, tuple[Layer, Tensor | None]] = {}
        self.running: set[str] = set()

    def expect(self, layer: Layer, given: Tensor) -> None:
        """The layer, which computes its own way, begins on `given`."""
        self._expected[layer.name] = layer, given

    def settle(self, layer: Layer) -> None:
        """The layer is done: what it was given is shown, if none of its products came by."""
        _, given = self._expected.pop(layer.name, (layer, None))
        if given is not None:
            self._see(layer, given)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look, then do what was asked."""
        if func is functional.linear or func in _CONVOLUTIONS:
            called = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
            given, weight = called["input"], called["weight"]
            owners = [layer for layer in self._layers if weight is layer.module.weight]
            if func is functional.linear:
                for layer in owners:
                    if layer.name not in self.running:
                        self._see(layer, given)
            for layer, _ in list(self._expected.values()):
                if layer in owners or (not owners and weight.shape == layer.module.weight.shape):
                    self._expected[layer.name] = layer, None
                    self._see(layer if func is functional.linear else layer.called(**called), given)
        return func(*args, **(kwargs or {}))


def _projected(layer: Layer, see: See) -> Callable[..., None]:
    """Hook for the `out_proj` of `nn.MultiheadAttention`, whose weight is read without the layer being called.

    The attention is run again with the identity as its output projection: what comes out is what `out_proj` is fed.
    """
    running = False

    def hook(attention: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], _: object) -> None:
        nonlocal running
        if running:
            return
        own = {f"out_proj.{name}": tensor for name, tensor in attention.out_proj.named_parameters()}
        identity = {name: torch.eye(len(each)).to(each) if each.dim() == 2 else 0 * each for name, each in own.items()}
        running = True
        try:
            output = functional_call(attention, identity, args, kwargs)
        finally:
            running = False
        see(layer, output[0])

    return hook
