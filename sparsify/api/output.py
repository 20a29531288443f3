"""A network whose output is no tensor, made to return one while it is looked at: the `output_transform` of `prune`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from sparsify.criteria.untouched import untouched
from sparsify.errors import UsageError

Transform = Callable[[Any], Tensor]


@dataclass
class _Then:
    """A module's forward, and what is made of its output; copied with the module, it is the copy's."""

    forward: Callable[..., Any]
    transform: Transform
    was_own: bool
    """Whether the module, and not its class, had the forward."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        return self.transform(self.forward(*args, **options))


def transform_output(module: nn.Module, transform: Transform) -> None:
    """Let `module` return `transform` of its output, until `restore_output`; copies made meanwhile do the same."""
    module.forward = _Then(module.forward, transform, "forward" in vars(module))


def restore_output(module: nn.Module) -> None:
    """Let `module` return what it did before `transform_output`; does nothing where that was not called."""
    then = vars(module).get("forward")
    if isinstance(then, _Then):
        del module.forward
        if then.was_own:
            module.forward = then.forward


@contextmanager
def restored_output(module: nn.Module) -> Generator[nn.Module]:
    """`module` as it was before `transform_output`, for a while."""
    then = vars(module).get("forward")
    restore_output(module)
    try:
        yield module
    finally:
        if isinstance(then, _Then):
            module.forward = then


def check_output(module: nn.Module, inputs: Tensor, argument: str) -> None:
    """Refuse a network that does not take these inputs, which came as `argument`, or does not return one tensor.

    Raises:
        UsageError: says what it raises or returns, and how that is mended.
    """
    try:
        with untouched(module) as call:
            output = cast("object", call({}, inputs))
    except Exception as error:  # a foreign module may raise anything
        said = next(iter(str(error).splitlines()), "")[:300]
        raise UsageError(
            f"{argument}: expected inputs that the network takes, got {inputs.dtype} of shape "
            f"{('N', *inputs.shape[1:])}, at which it raises {type(error).__name__}: {said}; give what it is fed in use"
        ) from error
    if not isinstance(output, Tensor):
        raise UsageError(
            f"model: expected one tensor out of it, got {type(output).__name__}; give output_transform, for example "
            "lambda output: output.logits"
        )
    if not bool(output.isfinite().all()):
        raise UsageError(
            f"model: expected finite outputs for these {argument}, got nan or inf; see whether its weights are finite, "
            "and whether the inputs are scaled as in use"
        )
