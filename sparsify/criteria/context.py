"""`Context`: all that a criterion may look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sparsify.errors import UsageError

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
# (done, of how many, what is being done), told now and then
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """Progress that nobody hears."""


@dataclass(frozen=True)
class Context:
    """A network, which of its weights to score, and what to score them with.

    Attributes:
        model: the network; it takes one tensor and returns one tensor. A criterion leaves it exactly as it was.
        names: the parameters to score.
        seed: seed of whatever a criterion draws.
        batches: (inputs (N, ...), targets (N, ...)) pairs; only the inputs are read where a criterion needs no labels.
        loss: (output, target) -> scalar, a mean over the examples of a batch.
        progress: told how far a criterion is that takes long.
    """

    model: nn.Module
    names: tuple[str, ...]
    seed: int
    batches: Sequence[Batch] = ()
    loss: Loss | None = None
    progress: Progress = silent

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters to score, by name, in the order of `names`; a tied one is found under each of its names.

        Raises:
            UsageError: the network has no parameter of a name.
        """
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        if missing := [name for name in self.names if name not in parameters]:
            raise UsageError(
                f"criterion: expected names of parameters, got {missing[0]!r}; there are {', '.join(parameters)}"
            )
        return {name: parameters[name] for name in self.names}

    @property
    def own_names(self) -> dict[str, str]:
        """Name to score -> the name under which the network lists the parameter; they differ where weights are tied."""
        listed = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {name: listed[id(parameter)] for name, parameter in self.parameters.items()}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to score as detached CPU tensors, by name; not copies where they are on the CPU already."""
        return {name: parameter.detach().cpu() for name, parameter in self.parameters.items()}

    def inputs_for(self, criterion: str) -> tuple[Tensor, ...]:
        """The inputs of every batch.

        Raises:
            UsageError: there is no batch; `criterion` is named.
        """
        if not self.batches:
            raise UsageError(
                f"{criterion}: expected calibration inputs, got none; name data and how many examples "
                "(--data SOURCE --calibration N), or take a criterion that reads weights alone, such as magnitude"
            )
        return tuple(inputs for inputs, _ in self.batches)

    def loss_for(self, criterion: str) -> Loss:
        """The loss, where there are batches to take it on.

        Raises:
            UsageError: there is no batch or no loss; `criterion` is named.
        """
        self.inputs_for(criterion)
        if self.loss is None:
            raise UsageError(
                f"{criterion}: expected a loss, got none; name data with labels (--data SOURCE --calibration N) and "
                "its task, or take a criterion that needs inputs alone, such as wanda"
            )
        return self.loss
