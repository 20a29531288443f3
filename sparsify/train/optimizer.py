"""Optimisers from their specs. One pass over memory a step: torch's fused kernels, or ours where that is quicker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.recipe.spec import AdamSpec, SgdSpec


class PlainSgd(torch.optim.Optimizer):
    """SGD without momentum or weight decay. To the bits of torch's in fp32, and quicker on the CPU.

    Attributes:
        kept: weight -> 1 where it is trained and 0 where its gradient is passed over, of the weight's shape and type.
            A mask in the same pass costs less than a gradient zeroed before it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.kept: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Descend along the gradients; weights without one stay."""
        if closure is not None:
            raise TypeError("PlainSgd.step: expected no closure; the gradients are computed before")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                kept = self.kept.get(weight)
                if kept is None:
                    weight.add_(weight.grad, alpha=-group["lr"])
                else:  # rate * kept is exact, and what follows is rounded once, as in the line above
                    weight.addcmul_(kept, weight.grad, value=-group["lr"])


def build_optimizer(
    spec: SgdSpec | AdamSpec, parameters: Iterable[nn.Parameter], *, clipped: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of `spec` over `parameters`, at its peak rate; `clipped` says whether gradients will be clipped."""
    parameters = list(parameters)
    if spec.name == "sgd":
        on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
        if on_cpu and not (spec.momentum or spec.weight_decay or clipped):  # a gradient's norm is taken under its mask
            return PlainSgd(parameters, lr=spec.lr)
        return torch.optim.SGD(
            parameters,
            lr=spec.lr,
            momentum=spec.momentum,
            nesterov=spec.nesterov,
            weight_decay=spec.weight_decay,
            fused=True,
        )
    kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the optimiser's state, named `PARAMETER_INDEX.KEY`; all there is to resume it from."""
    return {
        f"{index}.{key}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer_(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
