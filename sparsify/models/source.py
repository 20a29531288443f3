"""`Source`: what a kind of model source knows. One file a kind; `registry` names them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.models.published import PublishedInput
from sparsify.models.source_name import SourceName

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        name: The source.
        input_shape: Shape of one input, without the batch; None for the source's own.
        classes: Number of outputs; None for the checkpoint's, else the source's own.
        allow_import: Packages whose code may run.
    """

    name: SourceName
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    allow_import: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What builds a network again, whoever asked: JSON values only."""

    name: SourceName
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    allow_import: tuple[str, ...] = ()


def _as_read(description: Description, module: nn.Module, state: State) -> State:
    return state


def _nothing(description: Description) -> State | None:
    return None


def _images(description: Description, batch: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, *description.input_shape, generator=generator)


def _unsaid(name: SourceName, weights: Path | None, image_size: int | None) -> PublishedInput | None:
    return None


@dataclass(frozen=True)
class Source:
    """How one kind of source comes into being.

    Attributes:
        describe: Decides shape, classes and options from the request and, where given, a checkpoint's state.
        construct: Builds the module from the description and a seed, which the global random state already has.
            It takes one tensor (N, ...) and returns one.
        rename: Gives a checkpoint's state the module's names, where the source's own files use others.
        carried: The state that the source itself carries (a transformers folder), in the module's names.
        example: Inputs (N, *input_shape) the module can take.
        published: The pictures its published weights take: of this name, of the file they lie in if that tells
            several apart, at this size instead of their own if one is given; None where nobody says.
    """

    describe: Callable[[Request, State | None], Description]
    construct: Callable[[Description, int], nn.Module]
    rename: Callable[[Description, nn.Module, State], State] = _as_read
    carried: Callable[[Description], State | None] = _nothing
    example: Callable[[Description, int, torch.Generator], Tensor] = _images
    published: Callable[[SourceName, Path | None, int | None], PublishedInput | None] = _unsaid
