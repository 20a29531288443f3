"""Small cases that many tests share: separable images, short trainings, and a keeper that stops where it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.data.load import Data, Split
from sparsify.errors import Preempted
from sparsify.masks.mask import Mask
from sparsify.models.build import build, prunable
from sparsify.recipe.spec import TrainSpec
from sparsify.store.digest import canonical_json

MLP = "mlp:36-12-8-3"


def tiny_data(
    *,
    train: int = 80,
    validation: int = 40,
    test: int = 20,
    shape: tuple[int, int, int] = (1, 6, 6),
    classes: int = 3,
    seed: int = 0,
) -> Data:
    """Images that are a class's own random pattern plus noise of the same deviation: learnt in some tens of steps."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(classes, *shape, generator=generator)

    def split(count: int) -> Split:
        labels = torch.randint(classes, (count,), generator=generator)
        return Split(patterns[labels] + torch.randn(count, *shape, generator=generator), labels)

    return Data(split(train), split(validation), split(test), shape, classes)


def short_training(steps: str = "12it", **values: Any) -> TrainSpec:
    """A training of a few steps of 16 images, measured every 4; `values` are fields as a recipe writes them."""
    return TrainSpec.model_validate({"steps": steps, "batch_size": 16, "eval_every": "4it", **values})


def tiny_model(name: str = MLP, data: Data | None = None, *, seed: int = 0) -> nn.Module:
    """A model that fits `data`."""
    data = data or tiny_data()
    return build(name, input_shape=data.input_shape, classes=data.classes, seed=seed)


def random_mask(model: nn.Module, *, density: float = 0.4, seed: int = 0) -> Mask:
    """Each prunable weight kept with probability `density`."""
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    return Mask({name: torch.rand(parameters[name].shape, generator=generator) < density for name in prunable(model)})


def same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are equal bit for bit, signs of zero included; the order of names is no matter."""
    return set(a) == set(b) and all(
        x.dtype == b[name].dtype and x.shape == b[name].shape and x.numpy().tobytes() == b[name].numpy().tobytes()
        for name, x in ((name, a[name].detach()) for name in a)
    )


class MemoryKeeper:
    """A `Keeper` that stops after `stop_after` steps of this process, and holds what was saved as a file would.

    Args:
        stop_after: steps after which to stop; None for never.
        save_every: steps after which a checkpoint is due; 0 for never.
        saved: what an earlier keeper holds, to resume from.
    """

    def __init__(self, stop_after: int | None = None, *, save_every: int = 0, saved: Any = None) -> None:
        self.saved = saved
        self.steps = 0
        self.notes: list[tuple[int, int, str]] = []
        self._stop_after, self._save_every = stop_after, save_every

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        if self.saved is None:
            return None
        tensors, state = self.saved
        return {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(state)

    def save(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        self.saved = {name: tensor.detach().clone() for name, tensor in tensors.items()}, canonical_json(state)

    def due(self) -> bool:
        return self._save_every > 0 and self.steps % self._save_every == 0

    def stopping(self) -> bool:
        self.steps += 1
        return self.steps == self._stop_after

    def progress(self, step: int, total: int, note: str) -> None:
        self.notes.append((step, total, note))


def stopped(work: Any, keeper: MemoryKeeper) -> MemoryKeeper:
    """Run `work(keeper)` until it is preempted, and return a keeper that resumes it."""
    try:
        work(keeper)
    except Preempted:
        return MemoryKeeper(saved=keeper.saved)
    raise AssertionError(f"ended after {keeper.steps} steps without being stopped")
