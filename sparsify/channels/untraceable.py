"""`Untraceable`: a model whose channels cannot be followed; the caller can fall back to masking."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn

from sparsify.errors import UsageError


class Untraceable(UsageError):
    """No dependency graph can be made of the model; `module` names where that showed, `reason` what. A mask works."""

    def __init__(self, module: str, reason: str) -> None:
        self.module, self.reason = module, reason
        super().__init__(
            f"{module}: expected a model whose channels can be traced, got {reason}; prune it with a mask instead "
            "(pattern unstructured, n:m or block)"
        )


@contextmanager
def naming_the_module(model: nn.Module) -> Generator[None]:
    """Turn whatever a forward pass raises into `Untraceable`, naming the innermost module it was raised in."""
    names = {module: name for name, module in model.named_modules()}
    entered: list[str] = []
    hooks = [
        hook
        for module in names
        for hook in (
            module.register_forward_pre_hook(lambda m, _: entered.append(names[m])),
            module.register_forward_hook(lambda _, __, ___: void(entered.pop())),
        )
    ]
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        where = (entered[-1] if entered else "") or type(model).__name__
        raise Untraceable(where, f"{type(error).__name__}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()


def void(_: object) -> None:
    """A hook that returns something replaces the output."""
