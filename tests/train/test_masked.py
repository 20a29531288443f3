"""A mask holds exactly: zero weights and zero optimiser state, through momentum, weight decay and everything else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cases import MemoryKeeper, random_mask, short_training, tiny_data, tiny_model
from sparsify.masks.mask import Mask
from sparsify.train.loop import fit

PLAIN_SGD: dict[str, Any] = {"name": "sgd", "lr": 0.1, "momentum": 0.0}
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
    {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    {"name": "adam", "lr": 0.01, "weight_decay": 0.05},
    {"name": "adamw", "lr": 0.01, "weight_decay": 0.5},
]
DATA = tiny_data(shape=(1, 8, 8))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", [PLAIN_SGD, *OPTIMIZERS], ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("name", ["mlp:64-12-8-3", "resnet-20"])
def test_removed_weights_and_their_optimiser_state_are_zero_after_every_step(
    name: str, optimizer: dict[str, Any], precision: str
):
    model = tiny_model(name, DATA)
    mask = random_mask(model, density=0.3)
    start = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    keeper = Watcher(model, mask, buffers=0 if optimizer is PLAIN_SGD else 1)
    clip = None if optimizer is PLAIN_SGD else 1.0  # clipped, it is torch's
    spec = short_training(
        "6it", optimizer=optimizer, precision=precision, gradient_clip=clip, augment={"flip": True, "crop": 1}
    )
    fit(model, DATA, spec, seed=1, mask=mask, keeper=keeper)
    assert keeper.saves == 6
    parameters = dict(model.named_parameters())
    for key in mask:
        kept = mask[key]
        assert torch.count_nonzero(parameters[key][~kept]) == 0
        # Every surviving weight has moved: what is removed stays by the mask, not because nothing trains.
        assert float((parameters[key][kept] != start[key][kept]).float().mean()) > 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [PLAIN_SGD, *OPTIMIZERS], ids=lambda o: "-".join(map(str, o.values())))
def test_gpu_a_mask_holds_there_too(optimizer: dict[str, Any]):
    model = tiny_model("resnet-20", DATA).to("cuda")
    mask = random_mask(model, density=0.3)
    keeper = Watcher(model, mask, buffers=0 if optimizer is PLAIN_SGD else 1)
    fit(model, DATA, short_training("6it", optimizer=optimizer, precision="auto"), seed=1, mask=mask, keeper=keeper)
    assert keeper.saves == 6
    parameters = dict(model.named_parameters())
    assert all(torch.count_nonzero(parameters[name].cpu()[~kept.cpu()]) == 0 for name, kept in mask.items())


class Watcher(MemoryKeeper):
    """Looks at every tensor that would be kept, after every step."""

    def __init__(self, model: torch.nn.Module, mask: Mask, *, buffers: int) -> None:
        super().__init__(save_every=1)
        self.saves, self._least = 0, (1 + buffers) * len(mask)  # the weight, and one buffer or two
        self._names = [name for name, _ in model.named_parameters()]
        self._mask = mask

    def save(self, tensors: Any, state: Any) -> None:
        self.saves += 1
        watched = 0
        for name, tensor in tensors.items():
            part, rest = name.split("/")
            parameter = self._names[int(rest.split(".")[0])] if part == "optimizer" else rest
            if parameter in self._mask and tensor.shape == self._mask[parameter].shape:
                watched += 1
                assert torch.count_nonzero(tensor.cpu()[~self._mask[parameter].cpu()]) == 0, name
                assert torch.count_nonzero(tensor) > 0, name
        assert watched >= self._least


def test_a_layer_that_is_wholly_removed_stays_so():
    model = tiny_model("mlp:64-12-8-3", DATA)
    mask = Mask({"hidden1.weight": torch.zeros(12, 64, dtype=torch.bool)})
    fit(model, DATA, short_training(optimizer=OPTIMIZERS[0]), seed=1, mask=mask)
    assert torch.count_nonzero(model.get_parameter("hidden1.weight")) == 0


def test_a_mask_that_keeps_all_changes_no_bit():
    masked, dense = tiny_model("resnet-20", DATA), tiny_model("resnet-20", DATA)
    mask = random_mask(masked, density=2.0)
    assert mask.sparsity == 0
    fit(masked, DATA, short_training("4it"), seed=1, mask=mask)
    fit(dense, DATA, short_training("4it"), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(masked.parameters(), dense.parameters(), strict=True))
