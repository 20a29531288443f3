"""`Network`: what it takes to build a network again. Written beside every set of weights as `network.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError, SparsifyError, UsageError
from sparsify.models.checkpoint import load_into
from sparsify.models.registry import REGISTRY
from sparsify.models.source import Description, Source
from sparsify.models.source_name import SourceName, kind_of
from sparsify.store.atomic import write_json


@dataclass(frozen=True)
class Network:
    """A network by its source, without its weights.

    Attributes:
        model: The source: a zoo name, `torchvision:NAME`, `timm:NAME`, `transformers:PATH#HEAD`, `plugin:NAME` or
            `pkg.module:factory`.
        input_shape: Shape of one input without the batch: (C, H, W) of images, (2, T) of texts as ids and mask.
        classes: Number of outputs: classes, or the width of an embedding.
        options: What the source needs besides, as JSON values (transformers: the head and the whole configuration).
        channels: What was physically removed since, as `sparsify.channels` wrote it; empty for none.
    """

    model: str
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    channels: list[Any] = field(default_factory=list[Any])

    FILE: ClassVar[str] = "network.json"

    def build(
        self, *, seed: int = 0, weights: Mapping[str, Tensor] | None = None, allow_import: tuple[str, ...] = ()
    ) -> nn.Module:
        """The module as its source constructs it (training mode for most), on the CPU, without the removed channels.

        Equal arguments give equal bits; the global random state is left as it was.

        Args:
            seed: Seed of the initial weights.
            weights: A full state dict that replaces them.
            allow_import: Packages whose code may run, for `pkg.module:factory`.

        Raises:
            UsageError: The source is not known, not allowed, or does not fit; or the weights are another network's.
            UnavailableError: The library that has the source is not installed.
        """
        description, source = self._description(allow_import)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            module = _constructed(source, description, seed)
        if self.channels:
            from sparsify.models.history import replay

            module = replay(module, self.channels)
        if weights is not None:
            load_into(module, weights, self.FILE)
        return module

    def example(self, batch: int = 2, *, seed: int = 0) -> Tensor:
        """Random inputs (batch, *input_shape) of the kind the network takes: float32, or int64 ids and mask."""
        description, source = self._description(())
        return source.example(description, batch, torch.Generator().manual_seed(seed))

    def save(self, folder: Path) -> None:
        """Write `network.json` into `folder`."""
        values = {key: value for key, value in asdict(self).items() if key not in ("options", "channels") or value}
        write_json(folder / self.FILE, values)

    @classmethod
    def load(cls, folder: Path) -> Network:
        """Read what `save` wrote; CorruptError when it is no such file."""
        path = Path(folder) / cls.FILE
        try:
            return cls._from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"{path}: expected a network description, got {error!r}; is this a ticket's folder?"
            ) from error

    @classmethod
    def _from_json(cls, values: Mapping[str, Any]) -> Network:
        model, shape = str(values["model"]), tuple(int(side) for side in values["input_shape"])
        if not shape or (kind_of(model) == "zoo" and len(shape) != 3):
            raise ValueError(f"input_shape {list(shape)}")
        options, channels = values.get("options", {}), values.get("channels", [])
        if not isinstance(options, dict) or not isinstance(channels, list):
            raise TypeError("options and channels")
        return cls(model, shape, int(values["classes"]), options, channels)

    def _description(self, allow_import: tuple[str, ...]) -> tuple[Description, Source]:
        try:
            name = SourceName.parse(self.model)
        except ValueError as error:
            raise UsageError(f"model: {error}") from None
        return Description(name, self.input_shape, self.classes, self.options, allow_import), REGISTRY[name.kind]


def _constructed(source: Source, description: Description, seed: int) -> nn.Module:
    try:
        return source.construct(description, seed)
    except (SparsifyError, MemoryError):
        raise
    except Exception as error:  # a foreign library may raise anything where a shape does not suit it
        said = next(iter(str(error).splitlines()), "")[:300]
        raise UsageError(
            f"model {description.name.text}: expected a network for inputs of shape {description.input_shape} and "
            f"{description.classes} outputs, got {type(error).__name__}: {said}; give a shape that it can be built for"
        ) from error
