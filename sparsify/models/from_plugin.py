"""`plugin:NAME`: a model that an installed package offers under the entry point group `sparsify.models`.

The entry point names a function `(*, input_shape: tuple[int, ...], classes: int, **arguments) -> nn.Module`.
Installing the package was the decision to run it, as with any plug-in.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from torch import nn

from sparsify.errors import UnavailableError, UsageError
from sparsify.models.source import Description, Request, Source, State

GROUP = "sparsify.models"


def describe(request: Request, state: State | None) -> Description:
    """Shape and classes are the data's."""
    _entry_point(request.name.name)
    if request.input_shape is None or request.classes is None:
        raise UsageError(
            f"model {request.name.text}: expected an input shape and a number of classes, got {request.input_shape} "
            f"and {request.classes}; name the data, or pass input_shape and classes"
        )
    return Description(request.name, request.input_shape, request.classes)


def construct(description: Description, seed: int) -> nn.Module:
    """What the plug-in's function returns.

    Raises:
        UnavailableError: No installed package offers the name.
        UsageError: It returned no module.
    """
    name = description.name
    factory = _entry_point(name.name).load()
    module: object = factory(input_shape=description.input_shape, classes=description.classes, **name.arguments)
    if not isinstance(module, nn.Module):
        raise UsageError(f"model {name.text}: expected it to return a torch.nn.Module, got {type(module).__name__}")
    return module


def _entry_point(name: str) -> EntryPoint:
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if name not in offered:
        near = difflib.get_close_matches(name, offered, n=2)
        known = f"offered are {', '.join(sorted(offered))}" if offered else "none is installed"
        mend = f"did you mean {' or '.join(near)}?" if near else f"{known}; install the package that has it"
        raise UnavailableError(f"model plugin:{name}: expected a plug-in in the entry points {GROUP}; {mend}")
    return offered[name]


SOURCE = Source(describe, construct)
