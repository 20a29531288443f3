"""`pkg.module:factory`: a person's own function or class, called only where they allowed its package by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from sparsify.errors import UnavailableError, UsageError
from sparsify.models.source import Description, Request, Source, State
from sparsify.models.source_name import is_allowed, why_not_imported
from sparsify.recipe.misfit import near


def describe(request: Request, state: State | None) -> Description:
    """The shape is a person's to give; how many outputs there are is read off the first one where not given."""
    if not is_allowed(request.name.name, request.allow_import):
        raise UsageError(f"model: {why_not_imported(request.name.name)}")
    if request.input_shape is None:
        raise UsageError(
            f"model {request.name.text}: expected the shape of one input, got none, and a factory does not tell it; "
            "name the data, or pass input_shape"
        )
    return Description(request.name, request.input_shape, request.classes or 0, allow_import=request.allow_import)


def construct(description: Description, seed: int) -> nn.Module:
    """What the factory returns, called with the arguments that the source names.

    Raises:
        UsageError: The package is not allowed, has no such function, or it returned no module.
        UnavailableError: The package is not installed.
    """
    name = description.name
    if not is_allowed(name.name, description.allow_import):
        raise UsageError(f"model: {why_not_imported(name.name)}")
    module = _called(_factory(name.name), dict(name.arguments), name.text)
    if not isinstance(module, nn.Module):
        raise UsageError(f"model {name.text}: expected it to return a torch.nn.Module, got {type(module).__name__}")
    return module


def _factory(name: str) -> Callable[..., object]:
    place, _, attribute = name.partition(":")
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"model {name}: expected an importable module {place}, got: {error}; install it, or name its folder in "
            "PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        known = near(attribute, vars(module)) or "is it spelled so there?"
        raise UsageError(f"model {name}: expected a function or class {attribute!r} in {place}, got none; {known}")
    factory: object = getattr(module, attribute)
    if not callable(factory):
        raise UsageError(f"model {name}: expected a function or class {attribute!r} in {place}, got {factory!r}")
    return factory


def _called(factory: Callable[..., object], arguments: dict[str, object], text: str) -> object:
    try:
        return factory(**arguments)
    except TypeError as error:
        raise UsageError(
            f"model {text}: expected a factory that takes {', '.join(arguments) or 'no arguments'}, got: {error}; "
            "arguments are written ?name=value&name=value"
        ) from error


SOURCE = Source(describe, construct)
