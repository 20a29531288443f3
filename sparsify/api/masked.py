"""`Masked`: hold a mask exactly while somebody else's loop trains the network.

Two things hold it. The gradients of removed weights are zeroed as they arrive, so that accumulation, clipping by norm
and the optimiser's moments never see them. And after every step of every `torch.optim.Optimizer` that owns one of the
network's masked weights, the removed ones are set to exactly zero: what momentum or noise from before moved is put
back. The second is a hook on all optimisers, so that it is no matter when they were made, or who steps them
(GradScaler, Lightning, Accelerate).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask


@dataclass
class _Held:
    """One masked parameter, found anew each time: a module may replace the tensor it holds."""

    owner: nn.Module
    leaf: str
    removed: Tensor

    def weight(self) -> Tensor:
        """The parameter as it is now; `removed` follows it to its device."""
        weight = getattr(self.owner, self.leaf)
        if self.removed.device != weight.device:
            self.removed = self.removed.to(weight.device)
        return weight

    def zero_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient, zero where weights are removed, also where it was infinite; a sparse one passes."""
        if gradient.is_sparse:
            return gradient
        return gradient.masked_fill(self.removed.to(gradient.device), 0.0)


class Masked:
    """Keeps the weights that `mask` removes at exactly zero: `with Masked(model, mask): train()`.

    Entering sets the removed weights to zero; after each optimiser step they are zero again; leaving takes every hook
    away and the weights stay zero. Optimisers may be made before or inside. It may be entered again once left, and two
    of them may hold the same network, which then keeps what both keep. One that is forgotten
    without being left, and its network with it, takes its hooks along.

    A network wrapped by `torch.compile`, `DataParallel` or `DistributedDataParallel` is held as the network inside.
    What writes weights without a `torch.optim.Optimizer` (`load_state_dict`, an average swapped in, an optimiser of
    another kind) is not seen: call `hold()` after it. Parameters that are sharded (FSDP) are not supported.

    Example:
        >>> with sparsify.Masked(model, mask):
        ...     for images, labels in loader:
        ...         optimizer.zero_grad()
        ...         loss(model(images), labels).backward()
        ...         optimizer.step()

    Args:
        model: the network, wherever its parameters are.
        mask: parameter name -> what is kept.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self._model, self._mask = unwrapped(model), mask
        self._held: tuple[_Held, ...] = ()
        self._handles: list[RemovableHandle] = []
        self._entered = False

    @property
    def mask(self) -> Mask:
        """What is kept."""
        return self._mask

    @property
    def held(self) -> bool:
        """Whether it is inside its `with`."""
        return self._entered

    def __enter__(self) -> Masked:
        """Set the removed weights to zero and hold them there.

        Raises:
            UsageError: the mask is another network's, or this one is held already.
        """
        if self._entered:
            raise UsageError("Masked: expected one that is not held yet, got one inside its own `with`; make a second")
        self.hold()
        self._hook()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks away; the removed weights stay zero."""
        self._unhook()
        self._entered = False
        self.hold()

    def hold(self) -> None:
        """Set the removed weights to zero now.

        Raises:
            UsageError: the mask is another network's.
        """
        self._mask.apply_(self._model)

    def update(self, mask: Mask) -> None:
        """Hold another mask from here on: a sparser one, or one that lets weights grow again from zero.

        Raises:
            UsageError: the mask is another network's; the old one is still held.
        """
        mask.apply_(self._model)
        self._mask = mask
        if self._entered:
            self._unhook()
            self._hook()

    def _hook(self) -> None:
        self._held = tuple(_held(self._model, self._mask))
        for held in self._held:
            weight = held.weight()
            if weight.grad is not None:
                weight.grad = held.zero_gradient(weight.grad)
            if weight.requires_grad:
                self._handles.append(weight.register_hook(held.zero_gradient))
        handle = register_optimizer_step_post_hook(_while_alive(self._after_step))
        weakref.finalize(self, handle.remove)
        self._handles.append(handle)

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._held = ()

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, _arguments: Any, _options: Any) -> None:
        weights = [held.weight() for held in self._held]
        stepped = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for held, weight in zip(self._held, weights, strict=True):
            if id(weight) in stepped:
                weight.masked_fill_(held.removed, 0.0)


def _while_alive(method: Callable[..., None]) -> Callable[..., None]:
    """The method of an object that this does not keep alive: a hook on all optimisers would keep a network for good."""
    reference = weakref.WeakMethod(method)

    def called(*arguments: Any) -> None:
        if (alive := reference()) is not None:
            alive(*arguments)

    return called


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile`, `DataParallel` and `DistributedDataParallel`, in any order; else itself."""
    while True:
        inside = model.module if isinstance(model, DataParallel | DistributedDataParallel) else None
        inside = inside if inside is not None else getattr(model, "_orig_mod", None)
        if not isinstance(inside, nn.Module):
            return model
        model = inside


def _held(model: nn.Module, mask: Mask) -> Iterable[_Held]:
    """The parameters of which something is removed; whole layers cost nothing."""
    for name, kept in mask.items():
        if not bool(kept.all()):
            owner, _, leaf = name.rpartition(".")
            yield _Held(model.get_submodule(owner), leaf, ~kept)
