from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from sparsify.recipe.spec import ScheduleSpec
from sparsify.recipe.step import Step
from sparsify.train.schedule import lr_factor

PER_EPOCH = 5


def ours(spec: ScheduleSpec, total: int) -> list[float]:
    return [lr_factor(spec, step, total=total, per_epoch=PER_EPOCH) for step in range(total)]


def torchs(spec: ScheduleSpec, total: int) -> list[float]:
    """The same by torch's schedulers, the shape after warm-up stepped on its own clock."""
    warmup = spec.warmup.iterations(PER_EPOCH)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / max(warmup, 1), total_iters=max(warmup - 1, 1))
    rates = walk(optimizer, rising, warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    left = total - warmup
    after: lr_scheduler.LRScheduler
    match spec.name:
        case "multistep":
            milestones = [milestone.iterations(PER_EPOCH) - warmup for milestone in spec.milestones]
            after = lr_scheduler.MultiStepLR(optimizer, milestones, spec.gamma)
        case "cosine":
            after = lr_scheduler.CosineAnnealingLR(optimizer, T_max=left)
        case "linear":
            after = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=left)
        case "constant":
            after = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return rates + walk(optimizer, after, left)


def walk(optimizer: torch.optim.Optimizer, scheduler: lr_scheduler.LRScheduler, steps: int) -> list[float]:
    rates: list[float] = []
    for _ in range(steps):
        rates.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return rates


SHAPES = {
    "constant": ScheduleSpec(),
    "multistep": ScheduleSpec(name="multistep", milestones=(Step(12, "it"), Step(5, "ep")), gamma=0.2),
    "cosine": ScheduleSpec(name="cosine"),
    "linear": ScheduleSpec(name="linear"),
}


@pytest.mark.parametrize("warmup", [Step(0, "it"), Step(1, "it"), Step(2, "it"), Step(2, "ep")], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_rates_are_those_of_torchs_schedulers(name: str, warmup: Step):
    spec = SHAPES[name].model_copy(update={"warmup": warmup})
    assert ours(spec, 40) == pytest.approx(torchs(spec, 40), abs=1e-12)


@given(
    name=st.sampled_from(list(SHAPES)),
    warmup=st.integers(0, 30),
    total=st.integers(1, 40),
    step=st.integers(0, 50),
)
def test_factors_lie_in_0_to_1_and_training_never_stands_still(name: str, warmup: int, total: int, step: int):
    spec = SHAPES[name].model_copy(update={"warmup": Step(warmup, "it")})
    factor = lr_factor(spec, step, total=total, per_epoch=PER_EPOCH)
    assert 0 <= factor <= 1
    if step < total:
        assert factor > 0


def test_warm_up_ends_at_the_peak():
    assert ours(ScheduleSpec(warmup=Step(4, "it")), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
