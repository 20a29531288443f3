"""`fit` beside a loop written by hand, step by step, from nothing but torch and the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cases import MemoryKeeper, random_mask, same_bits, short_training, tiny_data, tiny_model
from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.recipe.spec import TrainSpec
from sparsify.seeds import derive_seed
from sparsify.train.evaluate import evaluate
from sparsify.train.loop import fit

SEED = 11
DATA = tiny_data()
PER_EPOCH = 5  # 80 images by 16

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
    "momentum": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"name": "adam", "lr": 0.01, "weight_decay": 0.01},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "betas": [0.8, 0.95], "eps": 1e-6},
}


def torchs(spec: dict[str, Any], model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec["name"]]
    constants = {key: value for key, value in spec.items() if key != "name"}
    return kind(model.parameters(), **constants, fused=fused)


def by_hand(
    model: nn.Module,
    data: Data,
    optimizer: torch.optim.Optimizer,
    steps: range,
    *,
    rate: Callable[[int], float] | None = None,
    mask: Mask | None = None,
    smoothing: float = 0.0,
    clip: float | None = None,
) -> list[float]:
    """Train in the order that `fit` documents; a mask is held by setting weights to zero after every step."""
    images, labels = data.train.images, data.train.labels
    losses: list[float] = []
    model.train()
    for step in steps:
        epoch, position = divmod(step, PER_EPOCH)
        generator = torch.Generator().manual_seed(derive_seed(SEED, "order", epoch))
        index = torch.randperm(len(labels), generator=generator)[16 * position : 16 * (position + 1)]
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images[index]), labels[index], label_smoothing=smoothing)
        loss.backward()
        if clip is not None:
            clip_by_hand_(model, clip)
        optimizer.step()
        losses.append(loss.item())
        if mask is not None:
            mask.apply_(model)
    return losses


def clip_by_hand_(model: nn.Module, limit: float) -> None:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = sum(float((gradient.double() ** 2).sum()) for gradient in gradients) ** 0.5
    for gradient in gradients:
        gradient.mul_(min(limit / norm, 1.0))


def close(a: nn.Module, b: nn.Module) -> bool:
    """Each tensor as a whole: where a gradient is about as small as rounding, Adam steps by its sign."""
    theirs = b.state_dict()
    return all(float((t - theirs[n]).norm() / theirs[n].norm()) < 1e-5 for n, t in a.state_dict().items())


@pytest.mark.parametrize("model", ["mlp:36-12-8-3", "conv-2"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_are_bit_identical_to_a_bare_loop(optimizer: str, model: str):
    settings = OPTIMIZERS[optimizer]
    ours = tiny_model(model, DATA)
    theirs, plain = (tiny_model(model, DATA).to(memory_format=torch.channels_last) for _ in range(2))  # as `fit` trains
    fit(ours, DATA, short_training("12it", optimizer=settings), seed=SEED)
    by_hand(theirs, DATA, torchs(settings, theirs, fused=True), range(12))
    assert same_bits(ours.state_dict(), theirs.to(memory_format=torch.contiguous_format).state_dict())
    by_hand(plain, DATA, torchs(settings, plain, fused=False), range(12))
    assert close(ours, plain)
    assert not close(ours, tiny_model(model, DATA))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_mask_is_bit_identical_to_zeroing_weights_after_each_step(optimizer: str):
    settings = OPTIMIZERS[optimizer]
    ours, theirs = tiny_model(), tiny_model()
    mask = random_mask(ours)
    fit(ours, DATA, short_training("12it", optimizer=settings), seed=SEED, mask=mask)
    mask.apply_(theirs)
    by_hand(theirs, DATA, torchs(settings, theirs, fused=True), range(12), mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_smoothing_clipping_and_schedule_are_those_of_a_bare_loop():
    settings = OPTIMIZERS["momentum"]
    schedule = {"name": "linear", "warmup": "3it"}
    spec = short_training("12it", optimizer=settings, schedule=schedule, label_smoothing=0.2, gradient_clip=0.3)
    ours, theirs, unclipped = tiny_model(), tiny_model(), tiny_model()
    fit(ours, DATA, spec, seed=SEED)

    def rate(step: int) -> float:
        return 0.05 * ((step + 1) / 3 if step < 3 else 1 - (step - 3) / 9)

    by_hand(theirs, DATA, torchs(settings, theirs, fused=False), range(12), rate=rate, smoothing=0.2, clip=0.3)
    assert close(ours, theirs)
    by_hand(unclipped, DATA, torchs(settings, unclipped, fused=False), range(12), rate=rate, smoothing=0.2)
    assert not close(ours, unclipped)


def test_a_gradient_is_clipped_by_the_norm_of_what_is_kept():
    ours, theirs = tiny_model(), tiny_model()
    mask = random_mask(ours, density=0.1)
    spec = short_training("1it", optimizer=OPTIMIZERS["sgd"], gradient_clip=0.05)
    fit(ours, DATA, spec, seed=SEED, mask=mask)
    mask.apply_(theirs)
    start = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    moved = sum(float(((p.detach() - start[n]) ** 2).sum()) for n, p in ours.named_parameters()) ** 0.5
    assert moved == pytest.approx(0.1 * 0.05, rel=1e-4)  # lr times the clipped norm


def test_entering_at_a_step_goes_on_in_the_schedule_and_the_data_order():
    settings = OPTIMIZERS["sgd"]
    schedule = {"name": "multistep", "milestones": ["4it", "8it"]}
    ours, theirs = tiny_model(), tiny_model()
    trained = fit(ours, DATA, short_training("12it", optimizer=settings, schedule=schedule), seed=SEED, start_step=7)
    rate = lambda step: 0.1 * 0.1 ** ((step >= 4) + (step >= 8))  # noqa: E731
    by_hand(theirs, DATA, torchs(settings, theirs, fused=True), range(7, 12), rate=rate)
    assert close(ours, theirs)
    assert trained.history.step == [8, 12]


def test_a_constant_rate_replaces_the_schedule():
    settings = OPTIMIZERS["sgd"]
    ours, theirs = tiny_model(), tiny_model()
    spec = short_training("12it", optimizer=settings, schedule={"name": "cosine", "warmup": "3it"})
    fit(ours, DATA, spec, seed=SEED, constant_lr=0.02)
    by_hand(theirs, DATA, torchs(settings | {"lr": 0.02}, theirs, fused=True), range(12))
    assert same_bits(ours.state_dict(), theirs.state_dict())


def test_epochs_and_iterations_mean_the_same():
    by_epochs, by_steps = tiny_model(), tiny_model()
    a = fit(by_epochs, DATA, short_training("2ep", eval_every="1ep"), seed=SEED)
    b = fit(by_steps, DATA, short_training(f"{2 * PER_EPOCH}it", eval_every=f"{PER_EPOCH}it"), seed=SEED)
    assert same_bits(by_epochs.state_dict(), by_steps.state_dict())
    assert a.history == b.history


def test_the_history_holds_mean_losses_since_the_row_before_and_scores_of_the_weights_then():
    ours, theirs = tiny_model(), tiny_model()
    keeper = MemoryKeeper()
    trained = fit(ours, DATA, short_training("10it", optimizer=OPTIMIZERS["adam"]), seed=SEED, keeper=keeper)
    optimizer = torchs(OPTIMIZERS["adam"], theirs, fused=True)
    for row, steps in enumerate((range(0, 4), range(4, 8), range(8, 10))):
        losses = by_hand(theirs, DATA, optimizer, steps)
        score = evaluate(theirs, DATA.validation)
        assert trained.history.step[row] == steps.stop
        assert trained.history.train_loss[row] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert trained.history.validation_loss[row] == score.loss
        assert trained.history.validation_accuracy[row] == score.accuracy
    assert [(step, total) for step, total, _ in keeper.notes] == [(step, 10) for step in range(1, 11)]


def test_it_learns():
    model = tiny_model()
    trained = fit(model, DATA, short_training("60it", optimizer=OPTIMIZERS["adam"]), seed=SEED)
    assert trained.history.validation_accuracy[-1] > 0.9
    assert trained.history.train_loss[-1] < 0.3 * trained.history.train_loss[0]


@pytest.mark.parametrize("step", [0, 1, 4, 7, 12])
def test_the_snapshot_is_the_network_of_a_training_that_ends_there(step: int):
    spec = short_training("12it", optimizer=OPTIMIZERS["momentum"])
    whole, part = tiny_model("resnet-20", IMAGES), tiny_model("resnet-20", IMAGES)
    trained = fit(whole, IMAGES, spec, seed=SEED, snapshot_step=step)
    if step:
        fit(part, IMAGES, short_training(f"{step}it", optimizer=OPTIMIZERS["momentum"]), seed=SEED)
    assert trained.snapshot is not None
    assert same_bits(trained.snapshot, part.state_dict())


IMAGES = tiny_data(shape=(1, 8, 8))


@pytest.mark.parametrize("step", [None, 13])
def test_without_a_step_to_snapshot_there_is_none(step: int | None):
    assert fit(tiny_model(), DATA, short_training(), seed=SEED, snapshot_step=step).snapshot is None


def test_a_training_of_no_steps_measures_and_changes_nothing():
    model, same = tiny_model(), tiny_model()
    trained = fit(model, DATA, short_training("5it"), seed=SEED, start_step=5)
    assert trained.history.step == [5]
    assert same_bits(model.state_dict(), same.state_dict())


def test_bf16_computes_in_bf16_and_keeps_fp32_weights():
    seen: list[torch.dtype] = []
    model, fp32 = tiny_model(), tiny_model()
    model.get_submodule("output").register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    settings = OPTIMIZERS["adam"]
    trained = fit(model, DATA, short_training("60it", optimizer=settings, precision="bf16"), seed=SEED)
    fit(fp32, DATA, short_training("60it", optimizer=settings), seed=SEED)
    assert seen.count(torch.bfloat16) == 60
    assert seen.count(torch.float32) == 15  # measured in fp32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not same_bits(model.state_dict(), fp32.state_dict())
    assert trained.history.validation_accuracy[-1] > 0.9


def test_the_mask_of_another_network_is_refused_before_anything_changes():
    model, same = tiny_model(), tiny_model()
    with pytest.raises(UsageError, match=r"mask hidden1.weight: expected shape \(10, 36\), got \(12, 36\)"):
        fit(model, DATA, short_training(), seed=SEED, mask=random_mask(tiny_model("mlp:36-10-3")))
    assert same_bits(model.state_dict(), same.state_dict())


def test_data_spec_and_global_random_state_are_left_as_they_were():
    data = tiny_data()
    before: list[Tensor] = [data.train.images.clone(), data.validation.images.clone()]
    state = torch.get_rng_state()
    spec: TrainSpec = short_training(augment={"flip": True, "crop": 1})
    fit(tiny_model(), data, spec, seed=SEED)
    assert torch.equal(before[0], data.train.images) and torch.equal(before[1], data.validation.images)
    assert torch.equal(torch.get_rng_state(), state)
