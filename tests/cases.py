"""Small cases that many tests share: separable images, short trainings, and a keeper that stops where it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.data.load import Data, Split
from sparsify.errors import Preempted
from sparsify.lottery.search import train_control, train_dense, train_level
from sparsify.lottery.ticket import Ticket
from sparsify.lottery.training_spec import TrainingSpec, training_spec
from sparsify.masks.mask import Mask
from sparsify.models.build import build, prunable
from sparsify.recipe.spec import Recipe, TrainSpec
from sparsify.store.digest import canonical_json
from sparsify.train.keeper import Keeper, NoKeeper

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


def tiny_recipe(**values: Any) -> Recipe:
    """A recipe of a short search on `tiny_data`; `values` are parts as a recipe writes them."""
    train = {"steps": "12it", "batch_size": 16, "eval_every": "4it", "optimizer": {"name": "adam", "lr": 0.01}}
    whole = {"name": "tiny", "model": MLP, "data": "digits", "train": train, "prune": {"levels": 2}} | values
    return Recipe.model_validate(whole)


class Search:
    """The stages of one replicate of a ticket search, each run once and kept in a folder of its own below `root`."""

    def __init__(self, root: Path, recipe: Recipe, data: Data | None = None, *, replicate: int = 0) -> None:
        self.root, self.recipe, self.data, self._replicate = root, recipe, data or tiny_data(), replicate

    def spec(self, level: int = 0, control: str | None = None) -> TrainingSpec:
        return training_spec(
            self.recipe, fingerprint="f", device="cpu", replicate=self._replicate, level=level, control=control
        )

    def path(self, level: int = 0, control: str | None = None) -> Path:
        return self.root / f"replicate_{self._replicate}" / f"{control or 'ticket'}_{level}"

    def ticket(self, level: int = 0, control: str | None = None, keeper: Keeper | None = None) -> Ticket:
        """The ticket of `level`, 0 for dense, or a control beside it, run with what it depends on where it is not."""
        out = self.path(level, control)
        if not (out / Ticket.HISTORY).exists():
            parents = self._parents(level, control)
            out.mkdir(parents=True, exist_ok=True)
            spec, keeper = self.spec(level, control), keeper or NoKeeper()
            if level == 0:
                train_dense(spec, self.data, out, keeper)
            else:
                (train_control if control else train_level)(spec, self.data, parents, out, keeper)
        return Ticket(out)

    def _parents(self, level: int, control: str | None) -> dict[str, Path]:
        if level == 0:
            return {}
        parents = {"dense": self.ticket().folder, "previous": self.ticket(level - 1).folder}
        return parents | ({"ticket": self.ticket(level).folder} if control else {})
