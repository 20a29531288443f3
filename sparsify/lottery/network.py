"""`Network`: what it takes to build a network again. Written beside every set of weights as `network.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from sparsify.errors import CorruptError
from sparsify.models.build import build, prunable
from sparsify.store.atomic import write_json


@dataclass(frozen=True)
class Network:
    """A zoo network by name, its input shape (C, H, W) and its number of classes."""

    model: str
    input_shape: tuple[int, int, int]
    classes: int

    FILE: ClassVar[str] = "network.json"

    def build(self, *, seed: int = 0, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The module, with `weights` (a full state dict) where given, else initialised from `seed`."""
        module = build(self.model, input_shape=self.input_shape, classes=self.classes, seed=seed)
        if weights is not None:
            module.load_state_dict(dict(weights))
        return module

    def save(self, folder: Path) -> None:
        """Write `network.json` into `folder`."""
        write_json(folder / self.FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Network:
        """Read what `save` wrote; CorruptError when it is no such file."""
        path = folder / cls.FILE
        try:
            values = json.loads(path.read_text())
            channels, height, width = values["input_shape"]
            return cls(str(values["model"]), (channels, height, width), int(values["classes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"{path}: expected a network description, got {error!r}; is this a ticket's folder?"
            ) from error


def prunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """The prunable parameters of `module` as detached CPU tensors, in module order."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name].detach().cpu() for name in prunable(module)}
