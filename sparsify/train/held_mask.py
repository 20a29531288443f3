"""A mask held while a network trains: still, or moved by a schedule.

A mask is held by zeroing the gradients of removed weights. Those weights start at zero, so momentum and both moments
stay zero, weight decay of zero is zero, and the weight stays exactly zero under SGD, Adam and AdamW alike. That costs
one multiplication of the masked gradients a step, which `PlainSgd` makes within its own pass. When a mask moves, newly
removed weights and all that the optimiser keeps of them are set to zero, and what is said above holds again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.seeds import derive_seed
from sparsify.train.mask_moves import Move, Prune, Restore, Rewire
from sparsify.train.mask_schedule import Masking
from sparsify.train.optimizer import PlainSgd
from sparsify.train.rewire import rewire


class HeldMask:
    """A mask that stays.

    Args:
        model: trained by `optimizer`.
        optimizer: has no state of the removed weights yet.
        mask: what is held; None holds nothing.

    Raises:
        UsageError: the mask is another network's.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask | None) -> None:
        self._parameters = dict(model.named_parameters())
        self._optimizer = optimizer
        self.mask = mask or Mask({})
        self.mask.apply_(model)
        self._kept = self._kept_weights()

    def after_backward(self, step: int) -> None:
        """Zero, in place, the gradients of the weights that are removed; whole layers cost nothing."""
        for weight, kept in self._kept.items():
            if weight.grad is not None:
                weight.grad.mul_(kept)

    def _kept_weights(self) -> dict[nn.Parameter, Tensor]:
        """Weight -> 1 or 0, of those whose gradients and optimiser state are to be zeroed here."""
        pruned = {name: kept for name, kept in self.mask.items() if not bool(kept.all())}
        weights = {self._parameters[name]: kept.to(self._parameters[name]) for name, kept in pruned.items()}
        if isinstance(self._optimizer, PlainSgd):  # it passes over their gradients itself, and keeps nothing of them
            self._optimizer.kept = weights
            return {}
        return weights


class MovingMask(HeldMask):
    """A mask that moves.

    Args:
        model: trained by `optimizer`.
        optimizer: whose state of removed weights is zeroed.
        mask: what is held at first; dense for None.
        masking: what moves it.
        moves: step -> move.
        seed: what is grown at random is drawn from it and the step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mask: Mask | None,
        masking: Masking,
        moves: Mapping[int, Move],
        seed: int,
    ) -> None:
        if mask is not None and set(mask) != set(masking.names):
            raise UsageError(
                f"mask: expected the parameters that are pruned, {', '.join(masking.names)}; got {', '.join(mask)}"
            )
        super().__init__(model, optimizer, mask or Mask.dense(model, masking.names))
        self._model, self._masking, self._moves, self._seed = model, masking, moves, seed

    def before(self, step: int) -> None:
        """Make the move of `step`, unless it takes a gradient."""
        move = self._moves.get(step)
        if isinstance(move, Prune):
            names = tuple(self.mask)
            self.hold(
                self._masking.removal.prune(self.mask, self._masking.scores(self._model, names, step), move.share)
            )
        elif isinstance(move, Restore):
            self.hold(Mask.dense(self._model, tuple(self.mask)))
        elif isinstance(move, Rewire) and move.grow == "random":
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "grow", step))
            self._rewire(move, {name: torch.rand(kept.shape, generator=generator) for name, kept in self.mask.items()})

    def after_backward(self, step: int) -> None:
        """Zero the gradients of removed weights; where the step is spent on growing by gradient, drop them all."""
        move = self._moves.get(step)
        if not isinstance(move, Rewire) or move.grow != "gradient":
            return super().after_backward(step)
        self._rewire(move, {name: _gradient(self._parameters[name]).abs() for name in self.mask})
        self._optimizer.zero_grad(set_to_none=True)  # an optimiser passes over weights without a gradient
        return None

    def hold(self, mask: Mask) -> None:
        """Hold another mask from now on: what it removes is zero, and so is the optimiser's state of it."""
        self.mask = mask
        mask.apply_(self._model)
        self._kept = self._kept_weights()
        for weight, kept in self._kept.items():
            for value in self._optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.mul_(kept)

    def _rewire(self, move: Rewire, growth: Mapping[str, Tensor]) -> None:
        removal, weights = self._masking.removal, {name: self._parameters[name] for name in self.mask}
        self.hold(
            rewire(self.mask, weights, growth, fraction=move.fraction, pattern=removal.pattern, axes=removal.axes)
        )


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Its gradient; numbers that are not finite are left to the loop, which stops at the loss they come with."""
    return torch.zeros_like(parameter) if parameter.grad is None else torch.nan_to_num(parameter.grad)
